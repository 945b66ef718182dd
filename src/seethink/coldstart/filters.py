"""Thresholds on the scores of traces (paper 2): which reasons speak against a trace. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from seethink.coldstart.scores import Tokenize, TraceScores, measure
from seethink.config import SftConfig
from seethink.core.types import Grade, Sample, Verdict

GradePairs = Callable[[Sequence[tuple[Sample, str]]], list[Grade]]


@dataclass
class FilterReport:
    """The number of traces that were read and kept, and why the others were dropped."""

    read: int
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    """Traces by reason, the most frequent reason first."""


def verify_traces(
    samples: Sequence[Sample], config: SftConfig, grade: GradePairs, tokenize: Tokenize
) -> tuple[list[Sample], FilterReport]:
    """Keep the traces in think format whose final answer is right and that neither ramble nor mix scripts.

    `grade` grades (sample, response) pairs, and `tokenize` counts a response's tokens. Samples without a gold answer
    (captions) pass the answer check. Returns the kept samples in their order, and the report.
    """
    grades = iter(grade([(s, s.response or "") for s in samples if s.answer]))
    kept: list[Sample] = []
    dropped: Counter[str] = Counter()
    for sample in samples:
        verdict = next(grades).verdict if sample.answer else Verdict.CORRECT
        against = reasons(measure(sample, sample.response or "", tokenize, filtered_by=True), verdict, config)
        if against:
            dropped[against[0]] += 1
        else:
            kept.append(sample)
    return kept, FilterReport(len(samples), len(kept), dict(dropped.most_common()))


def reasons(scores: TraceScores, verdict: Verdict, config: SftConfig) -> list[str]:
    """Every reason against a trace, the one that counts first; none for a trace to keep."""
    found = {
        "bad_format": config.require_think and not scores.think_format,
        "not_graded": verdict is Verdict.ERROR,
        "wrong_answer": verdict in (Verdict.WRONG, Verdict.NO_ANSWER),
        "too_long": scores.tokens > config.max_response_tokens,
        "rambling": scores.worst_repetition > config.max_repetition,
        "hallucinated": config.drop_hallucinated and scores.hallucinations > 0,
        "language_mixed": config.latin_only and bool(scores.foreign_scripts),
    }
    return [reason for reason, holds in found.items() if holds]
