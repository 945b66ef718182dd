"""Means, differences and correlations with their uncertainty. Everything random is drawn from a seed.

Several samples of one item are not independent: average them first (`clustered`), then ask about the item means.
Letters: N values (items, or pairs), B bootstrap resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between the ends of its interval.

    Example: `Interval(0.12, 0.03, 0.2, 500)`; all NaN where there are too few values to tell.
    """

    value: float
    low: float
    high: float
    n: int
    """Independent values behind it: items, pairs or seeds."""


def mean_se(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard error of the mean); NaN where there are too few values."""
    array = np.asarray(values, dtype=float)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    return mean, float(array.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def standard_error(influence: np.ndarray, clusters: int) -> float:
    """Of a ratio of sums over independent clusters (linearised)."""
    if clusters < 2:
        return math.nan
    return math.sqrt(clusters / (clusters - 1) * float((influence**2).sum()))


def clustered(values: Sequence[float], clusters: Sequence[Hashable]) -> dict[Hashable, float]:
    """The mean of each cluster (item), in the order in which clusters first appear; NaN values are left out.

    >>> clustered([1, 0, 1], ["a", "a", "b"])
    {'a': 0.5, 'b': 1.0}
    """
    members: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        if not math.isnan(value):
            members.setdefault(cluster, []).append(value)
    return {cluster: float(np.mean(found)) for cluster, found in members.items()}


def bootstrap_mean(
    values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """The mean with its percentile bootstrap interval over [N] independent values."""
    array = np.asarray(values, dtype=float)
    n = len(array)
    if n < 2:
        return Interval(float(array.mean()) if n else math.nan, math.nan, math.nan, n)
    means = np.concatenate([array[chunk].mean(1) for chunk in _resampled(n, resamples, seed)])
    return Interval(float(array.mean()), *ends(means, level), n)


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """mean(a - b) with its percentile bootstrap interval; `a` and `b` [N] are of the same items, in the same order.

    Pairs are resampled together, so that what both found hard does not count as noise.
    """
    return bootstrap_mean(np.subtract(_paired(a, b), b), seed=seed, resamples=resamples, level=level)


def t_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval:
    """The mean with Student's interval: for a handful of values (seeds), where a bootstrap is far too narrow."""
    mean, se = mean_se(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, len(values))
    reach = student_quantile((1 + level) / 2, len(values) - 1) * se
    return Interval(mean, mean - reach, mean + reach, len(values))


def student_quantile(share: float, degrees: int) -> float:
    """The t below which `share` of Student's distribution lies.

    With t = sqrt(degrees) tan(u), the density of u on (-pi/2, pi/2) is proportional to cos(u)^(degrees - 1).
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
    density = np.cos(angles) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(math.sqrt(degrees) * np.tan(np.interp(share * below[-1], below, angles)))


def pearson(
    x: Sequence[float], y: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Pearson's correlation of [N] pairs with its bootstrap interval; NaN for under three pairs or a constant."""
    return _correlation(_pearson, x, y, seed, resamples, level)


def spearman(
    x: Sequence[float], y: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Spearman's: Pearson's of the ranks, ties sharing theirs."""
    return _correlation(lambda a, b: _pearson(rank_rows(a), rank_rows(b)), x, y, seed, resamples, level)


def rank_rows(values: np.ndarray) -> np.ndarray:
    """[B, N] ranks from 1 within each row; equal values share the mean of theirs."""
    known, codes = np.unique(values, return_inverse=True)
    rows, kinds = len(values), len(known)
    codes = codes.reshape(values.shape)
    places = (codes + kinds * np.arange(rows)[:, None]).ravel()
    counts = np.bincount(places, minlength=rows * kinds).reshape(rows, kinds)
    return np.asarray(np.take_along_axis(counts.cumsum(1) - (counts - 1) / 2, codes, 1))


def resampled_ratios(sums: np.ndarray, counts: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """[B, C] sum of [C, K] `sums` over sum of `counts`, the K items drawn with replacement, alike for all C rows.

    A mean over what an item has several of (tokens, samples), items being independent; NaN where a draw has none.
    """
    items = sums.shape[1]
    rng, size = np.random.default_rng(seed), max(1, 2_000_000 // max(1, items))
    drawn = []
    for start in range(0, resamples, size):
        weights = rng.multinomial(items, np.full(items, 1 / items), min(size, resamples - start)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append((weights @ sums.T) / (weights @ counts.T))
    return np.concatenate(drawn)


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[B] correlations of the rows of [B, N]; NaN where one side is constant."""
    dx, dy = (side - side.mean(1, keepdims=True) for side in (x, y))
    spread, size = np.sqrt((dx**2).sum(1) * (dy**2).sum(1)), abs(x).max(1) * abs(y).max(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12 * np.maximum(1, size), np.clip((dx * dy).sum(1) / spread, -1, 1), np.nan)


def _correlation(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    x: Sequence[float],
    y: Sequence[float],
    seed: int,
    resamples: int,
    level: float,
) -> Interval:
    """Pairs with a NaN are left out; resamples in which one side is constant say nothing and are left out too."""
    pairs = np.stack([_paired(x, y), np.asarray(y, dtype=float)])
    a, b = pairs[:, np.isfinite(pairs).all(0)]
    n = len(a)
    value = float(measure(a[None], b[None])[0]) if n >= 3 else math.nan
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, n)
    drawn = np.concatenate([measure(a[chunk], b[chunk]) for chunk in _resampled(n, resamples, seed)])
    return Interval(value, *ends(drawn, level), n)


def _paired(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    if len(a) != len(b):
        raise ValueError(f"paired values must be of the same items: {len(a)} and {len(b)}")
    return np.asarray(a, dtype=float)


def _resampled(n: int, resamples: int, seed: int) -> list[np.ndarray]:
    """[b, N] places drawn with replacement, in chunks that bound the memory; the sum of b is B."""
    rng, size = np.random.default_rng(seed), max(1, 2_000_000 // n)
    return [rng.integers(0, n, (min(size, resamples - start), n)) for start in range(0, resamples, size)]


def ends(drawn: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of what was drawn; NaN where nothing was."""
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (math.nan, math.nan)
    return float(low), float(high)
