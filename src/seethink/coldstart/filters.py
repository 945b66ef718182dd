"""Teacher traces -> verified traces: rejection sampling, then length, repetition and language filters (paper 2)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from seethink.config import SftConfig
from seethink.core.denials import hallucinations
from seethink.core.text_measures import foreign_scripts, repetition, whole_question
from seethink.core.types import Grade, Sample, Verdict
from seethink.rewards.format import has_think_format

MIN_WINDOW = 32
"""Tokens. Fewer repeat themselves by chance."""

Tokenize = Callable[[str], Sequence[int]]
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
        reason = _reject(sample, verdict, config, tokenize)
        if reason is None:
            kept.append(sample)
        else:
            dropped[reason] += 1
    return kept, FilterReport(len(samples), len(kept), dict(dropped.most_common()))


def _reject(sample: Sample, verdict: Verdict, config: SftConfig, tokenize: Tokenize) -> str | None:
    """The first reason against a trace, or None."""
    response = sample.response or ""
    if config.require_think and not has_think_format(response):
        return "bad_format"
    if verdict is Verdict.ERROR:
        return "not_graded"
    if verdict is not Verdict.CORRECT:
        return "wrong_answer"
    tokens = tokenize(response)
    if len(tokens) > config.max_response_tokens:
        return "too_long"
    if _most_repetition(tokens) > config.max_repetition:
        return "rambling"
    if config.drop_hallucinated and hallucinations(sample, response):
        return "hallucinated"
    if config.latin_only and foreign_scripts(response, f"{whole_question(sample)}\n{sample.answer}"):
        return "language_mixed"
    return None


def _most_repetition(tokens: Sequence[int]) -> float:
    """The repetition of the whole trace, or of that third of it which repeats itself most: a loop may come late."""
    length = max(MIN_WINDOW, math.ceil(len(tokens) / 3))
    starts = (*range(0, max(1, len(tokens) - length), length // 4), max(0, len(tokens) - length))
    return max(repetition(tokens), *(repetition(tokens[start : start + length]) for start in starts))
