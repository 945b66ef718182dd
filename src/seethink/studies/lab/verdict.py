"""Effect, interval and verdict of a claim.

A finding must hold for other seeds, so the interval is Student's over the paired differences of the seeds, or the
bootstrap interval over their items where that is wider, because three seeds can agree by chance. The verdict over a
single seed is "can't tell".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seethink.core.statistics import Interval, bootstrap_mean, mean_se, t_interval
from seethink.studies.lab.reading import Reading
from seethink.studies.lab.schema import Claim

Verdict = Literal["agrees", "disagrees", "can't tell"]
UNKNOWN: Verdict = "can't tell"
OPPOSITE: dict[Verdict, Verdict] = {"agrees": "disagrees", "disagrees": "agrees", UNKNOWN: UNKNOWN}


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


def estimate_effect(claim: Claim, pairs: Sequence[tuple[Reading, Reading | None]]) -> Effect:
    """The effect over seeds, given the (left, right) values of each seed."""
    found = [left if right is None else _compare(claim, left, right) for left, right in pairs]
    values = [one.value for one in found]
    per_item = [list(one.items.values()) for one in found if one.items]
    interval = t_interval(values, level=claim.level)
    if per_item:
        interval = _wider(interval, bootstrap_mean([v for items in per_item for v in items], level=claim.level))
    back = math.exp if claim.ratio else float
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
    )


def _wider(seeds: Interval, items: Interval) -> Interval:
    """The outer ends of the intervals that are known."""
    known = [i for i in (seeds, items) if math.isfinite(i.low)]
    ends = (min(i.low for i in known), max(i.high for i in known)) if known else (math.nan, math.nan)
    return Interval(seeds.value, *ends, seeds.n)


def _compare(claim: Claim, left: Reading, right: Reading) -> Reading:
    """Ratios are compared as logarithms."""
    if not claim.ratio:
        return left.less(right)
    if left.value <= 0 or right.value <= 0:
        return Reading(math.nan)
    return Reading(math.log(left.value / right.value))


def judge(claim: Claim, effect: Effect) -> Verdict:
    """The decision rule of `Claim`. Values without any spread are too few to tell."""
    scale = math.log if claim.ratio else float
    known = all(map(math.isfinite, (effect.value, effect.low, effect.high)))
    if effect.seeds < 2 or not known or effect.low == effect.high:
        return UNKNOWN
    interval = Interval(scale(effect.value), scale(effect.low), scale(effect.high), effect.seeds)
    least = scale(claim.least)
    if claim.expect == "same":
        return _same(interval, least)
    if claim.expect in ("less", "not-less"):
        interval = Interval(-interval.value, -interval.high, -interval.low, interval.n)
    verdict = _more(interval, least)
    return OPPOSITE[verdict] if claim.expect.startswith("not-") else verdict


def _more(interval: Interval, least: float) -> Verdict:
    if interval.low > 0 and interval.value >= least:
        return "agrees"
    return "disagrees" if interval.high < least else UNKNOWN


def _same(interval: Interval, least: float) -> Verdict:
    if -least < interval.low and interval.high < least:
        return "agrees"
    return "disagrees" if interval.low > least or interval.high < -least else UNKNOWN
