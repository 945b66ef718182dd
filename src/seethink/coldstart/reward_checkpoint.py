"""The right traces scored by a reward model in this process: `coldstart.reward_checkpoint`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from seethink.coldstart.questions import Question
from seethink.coldstart.records import Records
from seethink.coldstart.reward_model import StoredReward, is_scored
from seethink.core.console import progress_bar
from seethink.core.files import read_file
from seethink.models.load import default_device
from seethink.models.reward_head import RewardHead, load_reward_head
from seethink.runs.identity import model_folder, model_identity

CHUNK = 32
"""Traces whose tensors are in memory together, pictures included, and among which batches are formed."""
WRITES_TEXT = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SHOWS_PICTURES = ("preprocessor_config.json", "processor_config.json")
"""Files besides the weights that a score depends on."""


def checkpoint_digest(source: str) -> str:
    """A hash of weights, configuration, tokenizer, chat template and processor, and the kind of device.

    A device has its own dtype and its own rounding. Of a hub model that is not on this machine yet, the name.
    """
    digest = hashlib.sha256((model_identity(source) or source).encode())
    folder = model_folder(source)
    files = [folder / name for name in (*WRITES_TEXT, *SHOWS_PICTURES)] if folder is not None else []
    for file in files:
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(read_file(file)).digest())
    return f"{digest.hexdigest()[:32]} {default_device().type}"


def score_by_checkpoint(
    source: str,
    by: str,
    folder: Path,
    traces: Sequence[tuple[str, Question, str]],
    stored: Records[StoredReward],
) -> None:
    """Score every (key, question, text) that has no score `by` this checkpoint.

    Batches are a function of all traces, not of those that wait: a process that was killed goes on with the same
    batches, which give the same scores in the same order. Raises ModelError or TemplateError, and UserError for a
    picture that cannot be read.
    """
    chunks = [traces[start : start + CHUNK] for start in range(0, len(traces), CHUNK)]
    chunks = [chunk for chunk in chunks if not all(is_scored(key, by, stored) for key, _, _ in chunk)]
    if not chunks:
        return
    head = load_reward_head(source)
    with progress_bar("reward model", sum(map(len, chunks))) as advance:
        for chunk in chunks:
            _score(head, by, folder, chunk, stored)
            advance(len(chunk), "")


def _score(
    head: RewardHead, by: str, folder: Path, chunk: Sequence[tuple[str, Question, str]], stored: Records[StoredReward]
) -> None:
    encoded = {key: head.encode(question.asked(folder), text) for key, question, text in chunk}
    unreadable = [key for key, found in encoded.items() if found is None and not is_scored(key, by, stored)]
    stored.append({"key": key, "by": by, "reward": None} for key in unreadable)
    readable = [(key, found) for key, found in encoded.items() if found is not None]
    for places in head.batches([found["input_ids"].shape[1] for _, found in readable]):
        keys = [readable[place][0] for place in places]
        missing = [key for key in keys if not is_scored(key, by, stored)]
        if not missing:
            continue
        scores = head.scores([readable[place][1] for place in places])
        found = {key: score if math.isfinite(score) else None for key, score in zip(keys, scores, strict=True)}
        stored.append({"key": key, "by": by, "reward": found[key]} for key in missing)
