"""From grades [N, K] to a benchmark's numbers with their errors.

Letters: N items, K runs, C components of the score, G clusters (items, or groups that are not independent),
B resamples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seethink.core.statistics import LEVEL, RESAMPLES, ends
from seethink.core.types import Verdict
from seethink.eval.bench.benchmark import Benchmark, Item, Parts
from seethink.eval.bench.composite import mean_over
from seethink.eval.bench.grades import Graded

_AT_ONCE = 4_000_000
"""Weights drawn at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class BenchScore:
    """One benchmark's numbers; shares and scores from 0 to 1."""

    name: str
    title: str
    n: int
    runs: int
    whole: bool
    """False for a sample, whose score is not the benchmark's."""
    score: float
    """avg@K: the mean of the runs' scores."""
    stderr: float
    """Over items, or over groups for composites, by the bootstrap."""
    low: float
    high: float
    """The middle 95% of the bootstrap."""
    run_scores: tuple[float, ...]
    run_sd: float
    """Standard deviation between the runs' scores; NaN for one run."""
    pass_at_k: float
    """Share of the items with a right answer in some run."""
    majority_at_k: float
    """Share of the items whose most frequent answer is right; ties count in part."""
    chance: float
    no_answer: float
    """Share of the answers in which none was found, truncated ones included."""
    truncated: float
    """Share of the answers that the length limit cut off."""
    refused: float
    """Share of the answers that were refused, or not asked as the model cannot take the prompt."""
    mean_tokens: float
    by_verifier: float
    """Share of the right answers that the verifier alone called right."""
    unscored: int
    """Answers that could not be graded, or are missing: left out of the score."""
    paper: float
    """In percent; NaN without a figure."""
    figures: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Further figures, a value per run."""

    @property
    def unscored_share(self) -> float:
        return self.unscored / max(1, self.n * self.runs)


def bench_score(
    benchmark: Benchmark, items: Sequence[Item], grades: Sequence[Sequence[Graded | None]], *, whole: bool
) -> BenchScore:
    """The numbers of grades [N][K]; None stands for an answer that is missing."""
    right_NK = rights(grades)
    parts = benchmark.score(items, right_NK)
    run_scores = headline(parts)
    low_high, stderr = _errors(parts)
    known = [grade for own in grades for grade in own if grade is not None]
    correct = [grade for grade in known if grade.verdict == Verdict.CORRECT]
    runs = right_NK.shape[1]
    return BenchScore(
        name=benchmark.name,
        title=benchmark.title,
        n=len(items),
        runs=runs,
        whole=whole,
        score=float(np.mean(run_scores)),
        stderr=stderr,
        low=low_high[0],
        high=low_high[1],
        run_scores=tuple(map(float, run_scores)),
        run_sd=float(np.std(run_scores, ddof=1)) if runs > 1 else math.nan,
        pass_at_k=_mean([_any(row) for row in right_NK]),
        majority_at_k=_mean([_majority(own) for own in grades]),
        chance=benchmark.chance(items),
        no_answer=_share(known, lambda grade: grade.verdict == Verdict.NO_ANSWER),
        truncated=_share(known, lambda grade: grade.finish == "length"),
        refused=_share(known, lambda grade: grade.finish in ("refused", "not_asked")),
        mean_tokens=float(np.mean([grade.tokens for grade in known])) if known else math.nan,
        by_verifier=_share(correct, lambda grade: grade.by == "verifier"),
        unscored=int(np.isnan(right_NK).sum()),
        paper=benchmark.paper,
        figures={name: tuple(map(float, values)) for name, values in parts.figures.items()},
    )


def rights(grades: Sequence[Sequence[Graded | None]]) -> np.ndarray:
    """[N, K] 1 right, 0 wrong, NaN unknown."""
    return np.array([[math.nan if g is None else g.right for g in own] for own in grades], dtype=float)


def headline(parts: Parts) -> np.ndarray:
    """[K] the score of each run."""
    total: np.ndarray = sum(c.weight * mean_over(c.values) for c in parts.components if c.weight)  # type: ignore[assignment]
    return total


@dataclass(frozen=True, slots=True)
class Sums:
    """What each cluster adds to each component of a score, summed over runs."""

    weights_C: np.ndarray
    sums_CG: np.ndarray
    counts_CG: np.ndarray

    def resampled(self, seed: int, resamples: int) -> np.ndarray:
        """[B] the score with the clusters drawn with replacement."""
        clusters = self.sums_CG.shape[1]
        rng, size = np.random.default_rng(seed), max(1, _AT_ONCE // max(1, clusters))
        drawn = []
        for start in range(0, resamples, size):
            times = rng.multinomial(clusters, np.full(clusters, 1 / clusters), min(size, resamples - start))
            with np.errstate(invalid="ignore", divide="ignore"):
                means = (times @ self.sums_CG.T) / (times @ self.counts_CG.T)
            drawn.append(means @ self.weights_C)
        return np.concatenate(drawn)


def cluster_sums(parts: Parts) -> Sums:
    """The parts of a score by cluster."""
    counted = [c for c in parts.components if c.weight]
    clusters = 1 + max(int(c.clusters.max()) for c in counted)
    sums, counts = np.zeros((len(counted), clusters)), np.zeros((len(counted), clusters))
    for row, component in enumerate(counted):
        known = np.isfinite(component.values)
        np.add.at(sums[row], component.clusters, np.where(known, component.values, 0).sum(1))
        np.add.at(counts[row], component.clusters, known.sum(1))
    seen = counts.any(0)
    return Sums(np.array([c.weight for c in counted]), sums[:, seen], counts[:, seen])


def headline_error(parts: Parts) -> float:
    """The standard error of a score."""
    return _errors(parts)[1]


def _errors(parts: Parts) -> tuple[tuple[float, float], float]:
    """(ends of the interval, standard error)."""
    sums = cluster_sums(parts)
    if sums.sums_CG.shape[1] < 2:
        return (math.nan, math.nan), math.nan
    drawn = sums.resampled(0, RESAMPLES)
    known = drawn[np.isfinite(drawn)]
    if len(known) < 2:
        return ends(drawn, LEVEL), math.nan
    if known.min() == known.max() and known[0] in (0.0, 1.0):
        return _all_alike(float(known[0]), sums.sums_CG.shape[1])
    return ends(drawn, LEVEL), float(known.std(ddof=1))


def _all_alike(value: float, clusters: int) -> tuple[tuple[float, float], float]:
    """(ends, standard error) where every cluster is right, or none: resampling would find no error at all.

    The other end is Clopper's and Pearson's; the error is that of a share with two more successes and failures (Agresti
    and Coull 1998).
    """
    far = 1 - ((1 - LEVEL) / 2) ** (1 / clusters)
    share = 2 / (clusters + 4)
    stderr = math.sqrt(share * (1 - share) / (clusters + 4))
    return ((0.0, far) if value == 0 else (1 - far, 1.0)), stderr


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better A is than B on one benchmark's items that both have answered; scores from 0 to 1."""

    name: str
    title: str
    n: int
    a: float
    b: float
    value: float
    low: float
    high: float
    """The middle 95% of the paired bootstrap over items, or groups."""
    p: float
    """Two-sided: how often a difference as large comes by exchanging the two models' answers at random."""

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0, or p is above 5%: for few items the bootstrap's interval is too narrow."""
        return not (self.low > 0 or self.high < 0) or not self.p < 1 - LEVEL

    @property
    def verdict(self) -> str:
        if math.isnan(self.p):
            return "too few items"
        return "within noise" if self.is_noise else "A is better" if self.value > 0 else "B is better"


def difference(
    benchmark: Benchmark, items: Sequence[Item], right_a: np.ndarray, right_b: np.ndarray, *, seed: int = 0
) -> Difference:
    """The paired difference of accuracies [N, K] of the same items; the runs' numbers may differ.

    An item of which either model lacks a score in some run counts for neither model.
    """
    known = np.isfinite(right_a).all(1) & np.isfinite(right_b).all(1)
    parts = [benchmark.score(items, np.where(known[:, None], right, math.nan)) for right in (right_a, right_b)]
    a, b = (cluster_sums(one) for one in parts)
    own, other = (float(np.mean(headline(one))) for one in parts)
    value, n = own - other, int(known.sum())
    if a.sums_CG.shape[1] < 2:
        return Difference(benchmark.name, benchmark.title, n, own, other, value, math.nan, math.nan, math.nan)
    # The same seed draws the same clusters for both.
    low, high = ends(a.resampled(seed, RESAMPLES) - b.resampled(seed, RESAMPLES), LEVEL)
    p = _exchange_p(a, b, seed)
    return Difference(benchmark.name, benchmark.title, n, own, other, value, low, high, p)


def _exchange_p(a: Sums, b: Sums, seed: int) -> float:
    """The share of sign changes, cluster by cluster, that make the difference at least as large."""
    shares = [s.sums_CG / s.counts_CG.sum(1, keepdims=True) for s in (a, b)]
    of_clusters = a.weights_C @ (shares[0] - shares[1])
    rng = np.random.default_rng(seed)
    observed, found = abs(of_clusters.sum()), 0
    size = max(1, _AT_ONCE // len(of_clusters))
    for start in range(0, RESAMPLES, size):
        signs = rng.choice((-1.0, 1.0), (min(size, RESAMPLES - start), len(of_clusters)))
        found += int((np.abs(signs @ of_clusters) >= observed - 1e-12).sum())
    return (1 + found) / (1 + RESAMPLES)


def _any(row: np.ndarray) -> float:
    return float(np.nanmax(row)) if np.isfinite(row).any() else math.nan


def _majority(own: Sequence[Graded | None]) -> float:
    """Of the answers with the most votes, the share that is right; NaN where nothing was graded."""
    voted = [grade for grade in own if grade is not None and not math.isnan(grade.right)]
    if not voted:
        return math.nan
    answers = [_spelled(grade) for grade in voted]
    votes = Counter(answers)
    top = [answer for answer, count in votes.items() if count == max(votes.values())]
    return float(np.mean([voted[answers.index(answer)].right for answer in top]))


def _spelled(grade: Graded) -> str:
    """Right answers are one answer, however they are written."""
    return "\0right" if grade.right == 1 else " ".join((grade.extracted or "").split()).strip(" .$*").lower()


def _share(grades: Sequence[Graded], holds: Any) -> float:
    return float(np.mean([bool(holds(grade)) for grade in grades])) if grades else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
