"""Means, differences and correlations with their uncertainty, by SciPy. Everything random is drawn from a seed.

Several samples of one item are not independent: average them first (`clustered`), then pass the item means.
Letters: N values (items, or pairs), B bootstrap resamples.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 2_000_000
"""Values resampled in one batch, which bounds the memory."""

Values = Sequence[float] | np.ndarray
"""[N]"""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between the ends of its interval.

    Example: `Interval(0.12, 0.03, 0.2, 500)`; an end is NaN where there are too few values to tell.
    """

    value: float
    low: float
    high: float
    n: int
    """Independent values behind it: items, pairs or seeds."""


def mean_se(values: Values) -> tuple[float, float]:
    """(mean, standard error of the mean); NaN where there are too few values."""
    array = np.asarray(values, dtype=float)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    return mean, float(array.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def standard_error(influence: np.ndarray, clusters: int) -> float:
    """Of a ratio of sums over independent clusters, by linearisation; NaN below two clusters.

    `influence` has what each cluster adds to the error of the ratio.
    """
    if clusters < 2:
        return math.nan
    return math.sqrt(clusters / (clusters - 1) * float((influence**2).sum()))


def clustered(values: Values, clusters: Sequence[Hashable]) -> dict[Hashable, float]:
    """The mean of each cluster (item), in the order in which clusters first appear; NaN values are left out.

    >>> clustered([1, 0, 1], ["a", "a", "b"])
    {'a': 0.5, 'b': 1.0}
    """
    members: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        if not math.isnan(value):
            members.setdefault(cluster, []).append(value)
    return {cluster: float(np.mean(found)) for cluster, found in members.items()}


def bootstrap_mean(values: Values, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """The mean with its percentile bootstrap interval over [N] independent values."""
    array = np.asarray(values, dtype=float)
    n = len(array)
    if n < 2:
        return Interval(float(array.mean()) if n else math.nan, math.nan, math.nan, n)
    return Interval(float(array.mean()), *ends(_bootstrap((array,), np.mean, seed, resamples), level), n)


def paired_bootstrap(
    a: Values, b: Values, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """mean(a - b) with its percentile bootstrap interval; `a` and `b` [N] are of the same items, in the same order.

    Pairs are resampled together, so that the difficulty which both share does not count as noise. Raises ValueError
    where the lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"paired values must be of the same items: {len(a)} and {len(b)}")
    return bootstrap_mean(np.subtract(a, b), seed=seed, resamples=resamples, level=level)


def t_interval(values: Values, *, level: float = LEVEL) -> Interval:
    """The mean with Student's interval: for a handful of values (seeds), where a bootstrap is far too narrow."""
    from scipy.special import stdtrit

    mean, se = mean_se(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, len(values))
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * se
    return Interval(mean, mean - reach, mean + reach, len(values))


def pearson(x: Values, y: Values, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Pearson's correlation of [N] pairs with its bootstrap interval; NaN below three pairs or for a constant side.

    Pairs with a NaN are left out, and so are resamples in which one side is constant.
    """
    return _correlation(_pearson, x, y, seed, resamples, level)


def spearman(x: Values, y: Values, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """Spearman's correlation, as `pearson`; tied values share the mean of their ranks."""
    return _correlation(_spearman, x, y, seed, resamples, level)


def resampled_ratios(sums: np.ndarray, counts: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """[B, C] sum of [C, K] `sums` over sum of `counts`, the K items drawn with replacement, alike for all C rows.

    The ratio is a mean over things of which an item has several (tokens, samples), where only items are independent;
    NaN where a draw has none.
    """
    items = sums.shape[1]
    rng, size = np.random.default_rng(seed), max(1, _AT_ONCE // max(1, items))
    drawn = []
    for start in range(0, resamples, size):
        weights = rng.multinomial(items, np.full(items, 1 / items), min(size, resamples - start)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append((weights @ sums.T) / (weights @ counts.T))
    return np.concatenate(drawn)


def ends(drawn: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the middle `level` of what was drawn; NaN values are left out, and both are NaN without any other."""
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (math.nan, math.nan)
    return float(low), float(high)


Statistic = Callable[..., np.ndarray]
"""(samples [B, N], axis) -> [B]"""


def _bootstrap(data: tuple[np.ndarray, ...], statistic: Statistic, seed: int, resamples: int) -> np.ndarray:
    """[B] the statistic of resampled values; several samples are resampled together."""
    from scipy import stats

    with warnings.catch_warnings():
        # Undefined in some of the resamples: `ends` leaves them out.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            data,
            statistic,
            n_resamples=resamples,
            batch=max(1, _AT_ONCE // len(data[0])),
            vectorized=True,
            paired=len(data) > 1,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return np.asarray(found.bootstrap_distribution)


def _pearson(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """NaN where one side is constant, of which SciPy warns."""
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return np.asarray(stats.pearsonr(x, y, axis=axis).statistic)


def _spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    from scipy import stats

    return _pearson(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis), axis)


def _correlation(statistic: Statistic, x: Values, y: Values, seed: int, resamples: int, level: float) -> Interval:
    pairs = np.array([x, y], dtype=float)
    a, b = pairs[:, np.isfinite(pairs).all(0)]
    n = len(a)
    value = float(statistic(a, b)) if n >= 3 else math.nan
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, n)
    return Interval(value, *ends(_bootstrap((a, b), statistic, seed, resamples), level), n)
