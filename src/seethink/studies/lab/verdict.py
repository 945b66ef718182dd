"""Effect, interval and verdict of a claim.

A finding must hold for other seeds, so the interval is Student's over the paired differences of the seeds, with a
moderated variance (`moderation`), or the bootstrap interval over their items where that is wider: three seeds can agree
by chance.

Verdicts: `agrees`; `too small`, there is an effect as claimed and it is surely smaller than what counts; `absent`, an
effect that counts is ruled out and there may be none; `reversed`, the opposite of the claim holds; `can't tell`, the
interval is too wide, or there is none; `untestable`, a check of the claim failed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from seethink.core.statistics import Interval, bootstrap_mean, mean_se
from seethink.studies.lab.looks import LOOKS, level_at
from seethink.studies.lab.moderation import NO_PRIOR, Prior
from seethink.studies.lab.schema import Claim
from seethink.studies.lab.values import SeedValues

Verdict = Literal["agrees", "too small", "absent", "reversed", "can't tell", "untestable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNKNOWN: Verdict = "can't tell"
UNTESTABLE: Verdict = "untestable"
_LARGEST = math.log(sys.float_info.max)


@dataclass(frozen=True)
class Effect:
    """`left` less `right`, or their ratio."""

    value: float
    low: float
    high: float
    seeds: int
    items: int
    """Items per seed; 0 where the values are not means over items."""
    by_seed: tuple[float, ...]
    item_error: float
    """Standard error over the items of one seed, the largest of all seeds; NaN without items."""
    p: float = math.nan
    """Two-sided, of no effect, over the seeds; NaN with one of them, or without any spread."""
    level: float = 0.9
    """Of the interval."""


def estimate_effect(claim: Claim, seeds: Sequence[SeedValues], prior: Prior = NO_PRIOR) -> Effect:
    """The effect over seeds; ratios are compared as logarithms. `prior` is that of the claim's scale.

    The interval of a primary claim has the level of the look that so many seeds are. That of a correlation ends at -1
    and 1, or at its value beyond.
    """
    values = [seed_effect(claim, one) for one in seeds]
    level = level_at(len(seeds), claim.level) if claim.primary and len(seeds) in LOOKS else claim.level
    interval, p = _student(values, prior, level)
    per_item = [item_values(one) for one in seeds if one.items]
    if per_item:
        interval = _wider(interval, bootstrap_mean(np.concatenate(per_item), level=level))
    if claim.right is None and (claim.left.correlation or claim.left.study == "correlation"):
        # Beyond -1 and 1 lies at most the value: the correction for reliability can take it there.
        low, high = max(interval.low, min(interval.value, -1.0)), min(interval.high, max(interval.value, 1.0))
        interval = Interval(interval.value, low, high, interval.n)
    back = factor if claim.ratio else float
    value, low, high = (
        back(x) if math.isfinite(x) else math.nan for x in (interval.value, interval.low, interval.high)
    )
    return Effect(
        value,
        low,
        high,
        seeds=len(values),
        items=min(map(len, per_item), default=0),
        by_seed=tuple(back(v) for v in values),
        item_error=max((mean_se(items)[1] for items in per_item), default=math.nan),
        p=p,
        level=level,
    )


def factor(logarithm: float) -> float:
    """Infinite where it is too large for a number."""
    return math.exp(logarithm) if logarithm < _LARGEST else math.inf


def _student(values: Sequence[float], prior: Prior, level: float) -> tuple[Interval, float]:
    """(the interval by the moderated t, its two-sided p); NaN below two values."""
    from scipy.special import stdtr, stdtrit

    n, mean = len(values), mean_se(values)[0]
    if n < 2:
        return Interval(mean, math.nan, math.nan, n), math.nan
    variance, df = prior.shrink(float(np.var(values, ddof=1)), n - 1)
    error = math.sqrt(variance / n)
    reach = float(stdtrit(df, (1 + level) / 2)) * error
    p = 2 * float(stdtr(df, -abs(mean) / error)) if error > 0 else math.nan
    return Interval(mean, mean - reach, mean + reach, n), p


def seed_effect(claim: Claim, one: SeedValues) -> float:
    """Of one seed: the logarithm of a ratio, NaN where it has none; the mean over the items that both arms have."""
    if claim.ratio:
        above, below = one.left, one.right or 0.0
        return math.log(above) - math.log(below) if above > 0 and below > 0 else math.nan
    return float(item_values(one).mean()) if one.items else one.left - (one.right or 0.0)


def item_values(one: SeedValues) -> np.ndarray:
    """[items] The differences of a seed, from the least: their order decides what a bootstrap draws."""
    values, counts = zip(*one.items, strict=True)
    return np.repeat(values, counts)


def _wider(seeds: Interval, items: Interval) -> Interval:
    """The outer ends of the intervals that are known."""
    known = [i for i in (seeds, items) if math.isfinite(i.low)]
    ends = (min(i.low for i in known), max(i.high for i in known)) if known else (math.nan, math.nan)
    return Interval(seeds.value, *ends, seeds.n)


def judge(claim: Claim, effect: Effect) -> Verdict:
    """The verdict by the effect and its interval alone; exactly one applies. `least` and 0 are 1 for a ratio.

    more: `agrees` where the interval lies above 0 and the effect reaches `least`; `reversed` where it lies below 0;
    where it lies below `least`, `too small` if above 0, else `absent`. less: the same downwards.
    not-more, not-less: `agrees` where the interval falls short of `least`; `reversed` where more (or less) would agree.
    same: `agrees` where the interval lies within ±`least`; `reversed` where it lies wholly outside.
    Otherwise, with a single seed or an interval without width: `can't tell`.
    """
    scale = math.log if claim.ratio else float
    known = all(map(math.isfinite, (effect.value, effect.low, effect.high)))
    if effect.seeds < 2 or not known or effect.low == effect.high:
        return UNKNOWN
    value, low, high, least = map(scale, (effect.value, effect.low, effect.high, claim.least))
    if claim.expect == "same":
        return _same(low, high, least)
    if claim.expect in ("less", "not-less"):
        value, low, high = -value, -high, -low
    is_there = low > 0 and value >= least
    if claim.expect.startswith("not-"):
        return "reversed" if is_there else "agrees" if high < least else UNKNOWN
    return "agrees" if is_there else _short_of(low, high, least)


def _short_of(low: float, high: float, least: float) -> Verdict:
    """Where an effect in the positive direction was claimed and not found."""
    if high < 0:
        return "reversed"
    if high < least:
        return "too small" if low > 0 else "absent"
    return UNKNOWN


def _same(low: float, high: float, least: float) -> Verdict:
    if -least < low and high < least:
        return "agrees"
    return "reversed" if low > least or high < -least else UNKNOWN
