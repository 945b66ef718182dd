"""How surprising a trace is to the model that is to learn it: what a teacher of another kind writes is hard to imitate.

Letter: N tokens of a trace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from seethink.coldstart.questions import Question
from seethink.coldstart.records import Records
from seethink.coldstart.store import StoredPerplexity
from seethink.core.console import progress_bar
from seethink.core.errors import UserError
from seethink.models.load import LoadedModel, load_model
from seethink.models.scorer import TokenScorer
from seethink.rl.batching import Batcher, given_responses
from seethink.runs.identity import model_identity


def measure_perplexity(
    student: str, folder: Path, traces: Sequence[tuple[str, Question, str]], stored: Records[StoredPerplexity]
) -> None:
    """Measure every (key, question, text) that has no perplexity under this student. Raises ModelError."""
    by = model_identity(student) or student
    waiting = [one for one in traces if (known := stored.summaries.get(one[0])) is None or known.by != by]
    if not waiting:
        return
    loaded = load_model(student)
    scorer = TokenScorer(loaded).eval()
    batcher = Batcher(micro_tokens=1, pack_length=0, pad_id=loaded.chat.pad_id, device=loaded.device)
    with progress_bar("perplexity", len(waiting)) as advance:
        for key, question, text in waiting:
            value = trace_perplexity(loaded, scorer, batcher, question, folder, text)
            stored.add({"key": key, "by": by, "perplexity": value})
            advance(1, "")


@torch.inference_mode()
def trace_perplexity(
    loaded: LoadedModel, scorer: TokenScorer, batcher: Batcher, question: Question, folder: Path, text: str
) -> float | None:
    """exp of the mean negative log-probability of the trace's tokens, the end of the turn included."""
    ids = loaded.chat.response_ids(text)
    try:
        prompt = loaded.chat.prompt(question.asked(folder))
    except UserError:  # a special token as text, more images than the student takes
        return None
    if loaded.chat.context is not None and len(prompt.input_ids) + len(ids) > loaded.chat.context:
        return None
    (batch,) = batcher.batches(given_responses([(prompt, ids)]))
    logprobs_N = scorer(batch).logprobs
    return round(math.exp(min(-float(logprobs_N.mean()), 50.0)), 4)
