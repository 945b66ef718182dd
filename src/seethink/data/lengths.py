"""Leaves out the prompts that the model cannot take, by one rule for training and evaluation.

A prompt's tokens include those of its images. Counting every prompt of a large data set takes minutes, so the lengths
are kept in a file and a second start measures nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers

from seethink.config import ReadConfig
from seethink.core.console import console, progress_bar
from seethink.core.errors import UserError
from seethink.core.files import write_text
from seethink.core.types import Sample
from seethink.data.dataset import load_samples
from seethink.data.fields import without_marks
from seethink.data.image_store import ImageStore, cache_root
from seethink.data.image_tokens import ImageTokens
from seethink.data.quarantine import DataError, Problem, Quarantine, RowError, problem
from seethink.data.rows import ReadGold
from seethink.data.video_inputs import NO_VIDEOS

if TYPE_CHECKING:
    from seethink.data.chat import Chat

IMAGE_MARK_TOKENS = 16
"""At most so many tokens mark an image's place in a template."""
MAX_KNOWN = 1_000_000
"""Lengths that are kept for one processor; beyond them, the oldest are dropped."""


def fit_samples(
    samples: Sequence[Sample], chat: Chat, config: ReadConfig, quarantine: Quarantine, source: str
) -> list[Sample]:
    """The samples whose prompt the model can take; the others go to `quarantine`.

    Texts that hold special tokens and prompts that fill the model's positions are bad rows; prompts over
    `data.max_prompt_tokens` are left out without being called bad. Raises DataError where too many rows are bad or no
    sample is left.
    """
    problems: dict[int, Problem] = {}
    for place, sample in enumerate(samples):
        error = _unfit(sample, chat)
        if error is not None:
            problems[place] = _problem(sample, source, error)
    rest = [place for place in range(len(samples)) if place not in problems]
    if config.max_prompt_tokens is None:
        rest = _perhaps_too_long(samples, rest, chat)
    lengths = prompt_lengths([samples[place] for place in rest], chat) if rest else []
    for place, length in zip(rest, lengths, strict=True):
        refused = RowError("prompt_refused", length) if isinstance(length, str) else too_long(length, chat, config)
        if refused is not None:
            problems[place] = _problem(samples[place], source, refused)
    rows = 0 if quarantine.knows(source) else len(samples)
    quarantine.report(source, list(problems.values()), config.max_bad_share, rows=rows)
    kept = [sample for place, sample in enumerate(samples) if place not in problems]
    if samples and not kept:
        raise DataError(f"{source}: no prompt is left of {len(samples):,}: {next(iter(problems.values()))}")
    return kept


def load_fitting(
    source: str,
    split: str,
    size: int | None,
    seed: int,
    chat: Chat | None,
    config: ReadConfig,
    quarantine: Quarantine,
    *,
    golds: ReadGold,
    graded: bool = False,
    store: ImageStore | None = None,
) -> list[Sample]:
    """`load_samples`, then `fit_samples` (without a chat, nothing is checked against a model). Raises DataError.

    Training and evaluation both load their samples by this function. `golds` reads the gold answers:
    `seethink.rewards.golds.read_gold`.
    """
    samples = load_samples(
        source, split, size, seed, golds=golds, config=config, quarantine=quarantine, graded=graded, store=store
    )
    return samples if chat is None else fit_samples(samples, chat, config, quarantine, source)


def _unfit(sample: Sample, chat: Chat) -> RowError | None:
    """The error of a sample that the model cannot take, as far as it shows without counting tokens."""
    token = special_token(sample, chat)
    if token is not None:
        return RowError("special_token", f"the text holds the special token {token!r}; remove or respell it")
    if sample.videos and not chat.takes_videos:
        return RowError("prompt_refused", NO_VIDEOS)
    most = chat.max_images
    if most is not None and len(sample.images) > most:
        return RowError("prompt_refused", f"{len(sample.images)} images; this model takes at most {most}")
    return None


def special_token(sample: Sample, chat: Chat) -> str | None:
    """A special token that the sample's texts hold: it would forge a turn or the place of an image."""
    texts = (without_marks(sample), sample.system, *sample.choices, sample.response or "")
    return chat.special_token_in(*texts)


def too_long(length: int, chat: Chat, config: ReadConfig) -> RowError | None:
    """What is wrong with a prompt of so many tokens, if anything is."""
    limit, context = config.max_prompt_tokens, chat.context
    if limit is not None and length > limit:
        return RowError("prompt_too_long", f"{length:,} tokens with images, over data.max_prompt_tokens = {limit:,}")
    if context is not None and length >= context:
        said = f"{length:,} tokens with images leave no room for a response in the model's {context:,} positions"
        return RowError("prompt_beyond_model", said)
    return None


def _perhaps_too_long(samples: Sequence[Sample], places: list[int], chat: Chat) -> list[int]:
    """The places of samples whose prompt may fill the model's positions: a text has no more tokens than bytes.

    Most prompts are far shorter, and counting the tokens of every one would take minutes.
    """
    if chat.context is None or not places:
        return []
    template = chat.prompt_length(Sample("template", "?"))
    return [place for place in places if template + _most_tokens(samples[place], chat) >= chat.context]


def _most_tokens(sample: Sample, chat: Chat) -> float:
    if sample.videos:
        return math.inf
    texts = (sample.system, sample.question, *(f"\nA. {choice}" for choice in sample.choices))
    try:
        images = chat.image_tokens.estimate(sample)
    except Exception:  # processors raise what they like of images that they do not take; measuring it says so
        return math.inf
    return images + IMAGE_MARK_TOKENS * len(sample.images) + sum(len(text.encode()) for text in texts)


def _problem(sample: Sample, source: str, error: RowError) -> Problem:
    return problem(str(sample.meta.get("file", source)), int(sample.meta.get("row", 0)), sample.id, error)


def prompt_lengths(samples: Sequence[Sample], chat: Chat) -> list[int | str]:
    """Tokens of each prompt, image tokens included, or what the processor says against it; measured once."""
    path = cache_folder() / f"{processor_identity(chat)}.json"
    known = _read(path)
    keys = [sample_key(sample) for sample in samples]
    new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in known}
    measured: dict[str, int | str] = {}
    with progress_bar("measuring prompts", len(new)) as advance:
        for key, sample in new.items():
            measured[key] = _measure(sample, chat)
            advance(1, "")
    console.print(f"prompts: {len(new):,} measured, {len(samples) - len(new):,} lengths known already")
    _store(path, {key: length for key, length in measured.items() if isinstance(length, int)})
    return [known[key] if key in known else measured[key] for key in keys]


def _measure(sample: Sample, chat: Chat) -> int | str:
    try:
        return chat.prompt_length(sample)
    except UserError as error:
        return str(error)


def sample_key(sample: Sample) -> str:
    """A hash of what a prompt's length depends on: its texts, the sizes of its images, and sizes and times of videos.

    No processor counts by what an image shows, and sizes are known without reading the file again.
    """
    sizes = [image.size for image in sample.images]
    videos = [(video.size, video.seconds, video.duration) for video in sample.videos]
    content = repr((sample.system, sample.question, sample.choices, sizes, *([videos] if videos else [])))
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:24]


def processor_identity(chat: Chat) -> str:
    """A hash of everything that turns samples into tokens: processor, tokenizer, template, and our code around them."""
    digest = hashlib.sha256()
    processor, tokenizer = chat.processor, chat.tokenizer
    for part in (
        transformers.__version__,
        type(processor).__name__,
        _described(processor),
        str(getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)),
        _vocabulary(tokenizer),
        chat.introduction,
        *(Path(inspect.getfile(code)).read_text(encoding="utf-8") for code in (type(chat), ImageTokens)),
    ):
        digest.update(part.encode("utf-8", "replace"))
        digest.update(b"\0")
    return digest.hexdigest()[:24]


def _described(processor: Any) -> str:
    """The processor's settings and those of its parts, without where it was loaded from."""
    settings = [processor, *(getattr(processor, name, None) for name in ("image_processor", "video_processor"))]
    tables = [part.to_dict() for part in settings if hasattr(part, "to_dict")]
    return json.dumps(tables, sort_keys=True, default=lambda value: type(value).__name__)


def _vocabulary(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))


def cache_folder() -> Path:
    return cache_root() / "lengths"


def _read(path: Path) -> dict[str, int]:
    """The stored lengths; none where the file is damaged or is not ours."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(table, dict):
        return {}
    return {k: v for k, v in table.items() if isinstance(v, int) and not isinstance(v, bool) and v > 0}


def _store(path: Path, measured: dict[str, int]) -> None:
    """Add lengths to the file, which another run may have changed since it was read.

    A cache that cannot be written costs time, never a run.
    """
    if not measured:
        return
    table = _read(path) | measured
    kept = dict(list(table.items())[-MAX_KNOWN:])
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(kept))
