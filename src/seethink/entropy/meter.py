"""Token entropy by criticality, correctness and position (paper 5.1, 6.5), from entropies that were recorded before.

Letters: T tokens of a response, N tokens of all responses, K prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seethink.core.files import finite_or_none
from seethink.core.sketch import Sketch, bins_of
from seethink.core.statistics import standard_error
from seethink.core.types import Completion, Verdict
from seethink.data.chat import Chat
from seethink.data.token_pieces import TokenPieces
from seethink.entropy.critical import Marks, mark

DECILES = 10
PAPER_THRESHOLD = 6.8
"""Nats above which the paper counts a token as tail (6.5), with a vocabulary of about 150,000 tokens."""
SMALLEST_VOCABULARY = 10_000
"""A smaller vocabulary hardly ever reaches 6.8 nats: the maximum for 10,000 tokens is ln 10,000 = 9.2."""
SMALL_VOCABULARY_QUANTILE = 0.99
"""The tail's threshold with a smaller vocabulary: this quantile of the first entropies that were measured."""
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
CORRECT, WRONG, UNGRADED = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Response:
    """What is known of the tokens of one response."""

    prompt: int
    """Number of its prompt: the tokens of one prompt are not independent."""
    entropies: Sequence[float]
    """[T] nats."""
    marks: Marks
    masses: Sequence[float] = ()
    """[T] probability of critical words; empty where it was not measured."""
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of many responses; arrays are [N]."""

    size: int
    """Prompts."""
    entropies: np.ndarray
    prompts: np.ndarray
    deciles: np.ndarray
    """0 ... 9: how far into the response."""
    critical: np.ndarray
    following: np.ndarray
    starts: np.ndarray
    masses: np.ndarray
    """NaN where not measured."""
    grades: np.ndarray
    """CORRECT, WRONG (no answer included), or UNGRADED."""

    @classmethod
    def of(cls, responses: Iterable[Response], size: int) -> Tokens:
        """The responses to `size` prompts."""
        rows = list(responses)
        lengths = [len(r.entropies) for r in rows]
        deciles = [DECILES * np.arange(n) // n for n in lengths if n]
        masses = [np.asarray(r.masses if len(r.masses) else np.full(len(r.entropies), np.nan)) for r in rows]
        return cls(
            size=size,
            entropies=_join([np.asarray(r.entropies, dtype=np.float64) for r in rows], np.float64),
            prompts=np.repeat(np.array([r.prompt for r in rows], dtype=np.int64), lengths),
            deciles=_join(deciles, np.int64),
            critical=_join([r.marks.critical for r in rows], bool),
            following=_join([r.marks.following for r in rows], bool),
            starts=_join([r.marks.starts for r in rows], bool),
            masses=_join(masses, np.float64),
            grades=np.repeat(np.array([_grade(r.verdict) for r in rows], dtype=np.int64), lengths),
        )

    def groups(self) -> dict[str, np.ndarray]:
        """[N] bool of every group of tokens that has statistics of its own."""
        return {
            "all": np.ones(len(self.entropies), dtype=bool),
            "critical": self.critical,
            "following": self.following,
            "correct": self.grades == CORRECT,
            "wrong": self.grades == WRONG,
            **{f"position_{i}": self.deciles == i for i in range(DECILES)},
        }

    def critical_mass(self) -> Estimate:
        """Mean probability of critical words where a sentence starts."""
        known = self.starts & np.isfinite(self.masses)
        return self.estimate(self.masses, known)

    def estimate(self, values: np.ndarray, chosen: np.ndarray) -> Estimate:
        """The mean of `values` [N] over the tokens in `chosen` [N] bool."""
        places = self.prompts[chosen]
        sums = np.bincount(places, weights=values[chosen], minlength=self.size)
        return Estimate(sums, np.bincount(places, minlength=self.size))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tokens, with the sums and counts per prompt that its standard error needs."""

    sums: np.ndarray
    """[K]"""
    counts: np.ndarray
    """[K]"""

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """NaN without tokens."""
        return float(self.sums.sum() / self.n) if self.n else math.nan

    @property
    def influence(self) -> np.ndarray:
        """[K] What each prompt adds to the error of the mean; zero where it has no such token."""
        return (self.sums - self.mean * self.counts) / self.n if self.n else np.zeros(len(self.sums))

    @property
    def se(self) -> float:
        """Standard error of the mean, where prompts are independent but their tokens are not; NaN below two prompts."""
        return standard_error(self.influence, int((self.counts > 0).sum()))


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Entropy of one group of tokens."""

    sketch: Sketch
    estimate: Estimate
    """Of the mean entropy."""
    tail: Estimate
    """Of the share above the threshold."""

    def as_json(self) -> dict[str, Any]:
        """The group's table of `entropy.jsonl`; null where there are no tokens."""
        sketch = self.sketch
        return {
            "count": sketch.count,
            "mean": finite_or_none(sketch.mean),
            "se": finite_or_none(self.estimate.se),
            "quantiles": {name: finite_or_none(sketch.quantile(share)) for name, share in QUANTILES.items()},
            "tail_share": finite_or_none(self.tail.mean),
            "histogram": sketch.as_json(),
        }


def group_stats(tokens: Tokens, threshold: float) -> dict[str, GroupStats]:
    """Statistics of every group of tokens; `threshold` in nats begins the tail."""
    bins, known = bins_of(tokens.entropies), np.isfinite(tokens.entropies)
    above = (tokens.entropies > threshold).astype(np.float64)
    return {
        name: GroupStats(
            Sketch.of_bins(tokens.entropies[chosen], bins[chosen]),
            tokens.estimate(tokens.entropies, chosen & known),
            tokens.estimate(above, chosen & known),
        )
        for name, chosen in tokens.groups().items()
    }


def tail_threshold(nats: float | None, vocabulary: int, first: np.ndarray) -> float:
    """Nats above which a token is in the tail.

    `nats` where it is given, else the paper's 6.8; with a small vocabulary, a quantile of the `first` entropies [N].
    """
    if nats is not None:
        return nats
    known = first[np.isfinite(first)]
    if vocabulary >= SMALLEST_VOCABULARY or not known.size:
        return PAPER_THRESHOLD
    return float(np.quantile(known, SMALL_VOCABULARY_QUANTILE))


class EntropyMeter:
    """Finds critical tokens in completions: words of `words`, and the `window` tokens after each."""

    def __init__(self, chat: Chat, words: tuple[str, ...], window: int) -> None:
        self.texts = TokenPieces(chat.tokenizer)
        self._words, self._window = words, window

    def marks(self, token_ids: Sequence[int]) -> Marks:
        return mark(self.texts(token_ids), self._words, self._window)

    def tokens(self, groups: Sequence[Sequence[Completion]]) -> Tokens:
        """The tokens of sampled completions, by prompt, with the entropies that decoding recorded."""
        return Tokens.of([self._response(i, c) for i, group in enumerate(groups) for c in group], len(groups))

    def _response(self, prompt: int, completion: Completion) -> Response:
        verdict = completion.grade.verdict if completion.grade else None
        marks = self.marks(completion.token_ids)
        return Response(prompt, completion.entropies, marks, completion.watched_mass, verdict)


def _grade(verdict: Verdict | None) -> int:
    if verdict is None or verdict is Verdict.ERROR:
        return UNGRADED
    return CORRECT if verdict is Verdict.CORRECT else WRONG


def _join(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
