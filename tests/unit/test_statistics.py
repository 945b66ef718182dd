"""Means, intervals and correlations against hand values and scipy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from seethink.core.statistics import (
    Interval,
    bootstrap_mean,
    clustered,
    mean_se,
    paired_bootstrap,
    pearson,
    spearman,
    t_interval,
)


def test_mean_and_standard_error_by_hand() -> None:
    """1, 0.5, 0, 0.5: sample variance 1/6."""
    assert mean_se([1, 0.5, 0, 0.5]) == pytest.approx((0.5, math.sqrt(1 / 6 / 4)))
    assert mean_se([3.0])[0] == 3.0
    assert all(math.isnan(v) for v in [mean_se([3.0])[1], *mean_se([])])


def test_samples_of_an_item_count_as_one() -> None:
    assert clustered([1, 0, 1, math.nan, math.nan], ["b", "b", "a", "a", "c"]) == {"b": 0.5, "a": 1.0}


def test_paired_difference_by_hand() -> None:
    """Items differ a lot, pairs by exactly 0.1: the interval has no width."""
    b = np.linspace(0, 1, 20)
    found = paired_bootstrap(b + 0.1, b)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.n == 20
    with pytest.raises(ValueError, match="20 and 19"):
        paired_bootstrap(b, b[1:])


def test_bootstrap_interval_matches_the_normal_one_on_many_values() -> None:
    values = np.random.default_rng(0).normal(2, 3, 1000)
    found = bootstrap_mean(values, resamples=4000)
    reach = 1.96 * mean_se(values)[1]
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - reach, abs=0.02)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.02)


def test_bootstrap_is_seeded() -> None:
    values = np.random.default_rng(1).normal(size=30)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    found = [bootstrap_mean(rng.normal(size=40), seed=i, resamples=400) for i in range(400)]
    assert 0.90 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.97


@pytest.mark.parametrize("n", [2, 3, 4, 8, 31, 201])
@pytest.mark.parametrize("level", [0.2, 0.9, 0.95, 0.99])
def test_students_interval_equals_scipys(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(size=n)
    low, high = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    found = t_interval(values, level=level)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_t_interval_of_three_seeds() -> None:
    values = [0.02, 0.05, 0.03]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = t_interval(values)
    assert (found.value, found.low, found.high, found.n) == (pytest.approx(np.mean(values)), *map(near, (low, high)), 3)
    assert math.isnan(t_interval([1.0]).low)


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-9)


def test_tied_values_share_their_ranks() -> None:
    """Ranks 3.5, 1, 3.5, 2 against 1, 2, 3, 4: covariance -1, variances 4.5 and 5."""
    assert spearman([5.0, 1.0, 5.0, 3.0], [1, 2, 3, 4]).value == pytest.approx(-1 / math.sqrt(4.5 * 5))


def test_resamples_are_those_of_a_plain_bootstrap() -> None:
    """Drawn by hand with the same generator: the stored results of earlier versions stay comparable."""
    values = np.random.default_rng(7).normal(size=12)
    means = values[np.random.default_rng(3).integers(0, 12, (2000, 12))].mean(1)
    found = bootstrap_mean(values, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_equal_scipys(ties: bool) -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 4, 25).astype(float) if ties else rng.normal(size=25)
    y = x + rng.normal(size=25)
    assert pearson(x, y).value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_correlation_intervals_hold_the_value_and_shrink_with_n() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    few, many = pearson(x[:20], y[:20]), pearson(x, y)
    assert few.low <= few.value <= few.high
    assert many.high - many.low < (few.high - few.low) / 2
    fisher = np.tanh(np.arctanh(many.value) + np.array([-1.96, 1.96]) / math.sqrt(397))
    assert (many.low, many.high) == pytest.approx(tuple(fisher), abs=0.03)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_where_a_correlation_cannot_be_told(measure: Callable[..., Interval]) -> None:
    assert math.isnan(measure([1, 2], [2, 1]).value)
    assert math.isnan(measure([0.1, 0.1, 0.1, 0.1], [1, 2, 3, 4]).value)
    assert measure([1, 2, 3, math.nan, 4], [1, 2, 3, 9, 4]).n == 4
    assert measure([1, 2, 3, math.nan, 4], [1, 2, 3, 9, 4]).value == pytest.approx(1.0)
