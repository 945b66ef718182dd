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
    return Interval(float(array.mean()), *_ends(means, level), n)


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
    return _correlation(lambda a, b: _pearson(ranks(a), ranks(b)), x, y, seed, resamples, level)


def ranks(values: np.ndarray) -> np.ndarray:
    """[N] ranks from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[which])


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    scale = math.sqrt((dx @ dx) * (dy @ dy))
    return float(np.clip(dx @ dy / scale, -1, 1)) if scale > 1e-12 * max(1.0, abs(x).max() * abs(y).max()) else math.nan


def _correlation(
    measure: Callable[[np.ndarray, np.ndarray], float],
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
    value = measure(a, b) if n >= 3 else math.nan
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, n)
    drawn = [measure(a[places], b[places]) for chunk in _resampled(n, resamples, seed) for places in chunk]
    return Interval(value, *_ends(np.array([r for r in drawn if not math.isnan(r)]), level), n)


def _paired(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    if len(a) != len(b):
        raise ValueError(f"paired values must be of the same items: {len(a)} and {len(b)}")
    return np.asarray(a, dtype=float)


def _resampled(n: int, resamples: int, seed: int) -> list[np.ndarray]:
    """[b, N] places drawn with replacement, in chunks that bound the memory; the sum of b is B."""
    rng, size = np.random.default_rng(seed), max(1, 2_000_000 // n)
    return [rng.integers(0, n, (min(size, resamples - start), n)) for start in range(0, resamples, size)]


def _ends(drawn: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (math.nan, math.nan)
    return float(low), float(high)
