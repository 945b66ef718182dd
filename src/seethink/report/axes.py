"""Axes: the position of a value between two ends, and the round ticks between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

TINY = 1e-290
"""Below it the steps between ticks lose their digits."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The map from values to pixels, with its tick values."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """The position of the value: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, count: int = 5) -> Axis:
    """About `count` round ticks (1, 2 or 5 times a power of ten) that enclose the values."""
    largest = max(abs(low), abs(high))
    # Values that double precision hardly tells apart, or that are hardly more than 0, are one value.
    if high - low <= max(1e-9 * largest, TINY):
        pad = 0.1 * largest if largest > TINY else 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if rough <= power * factor * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(12, 2 - math.floor(math.log10(step)))
    ticks = tuple(round(index * step, digits) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def log_axis(low: float, high: float) -> Axis:
    """Powers of ten that enclose positive values, at most six; below two decades also 2 and 5 times them."""
    if high / low < 100:
        steps = [factor * 10.0**power for power in range(-12, 12) for factor in (1, 2, 5)]
        start = max(step for step in steps if step <= low * (1 + 1e-9))
        end = min(step for step in steps if step >= high * (1 - 1e-9) and step > start)
        return Axis(start, end, tuple(step for step in steps if start <= step <= end), log=True)
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    stride = math.ceil((last - first) / 5)
    ticks = tuple(10.0**power for power in range(first, last + 1, stride))
    return Axis(10.0**first, 10.0**last, ticks, log=True)


def doubling_axis(low: float, high: float) -> Axis:
    """Powers of two for positive values; the axis is a little wider than the values."""
    first, last = math.floor(math.log2(low) + 1e-9), math.ceil(math.log2(high) - 1e-9)
    stride = math.ceil((last - first + 1) / 7)
    ticks = tuple(2.0**power for power in range(first, last + 1, stride))
    pad = (high / low) ** 0.05 if high > 1.001 * low else 1.5
    low, high = low / pad, high * pad
    return Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high), log=True)


def tick_text(value: float, percent: bool = False) -> str:
    """`0.25`, `12k`, `1e-4`, `−5`, `40%`."""
    if value < 0:
        return "−" + tick_text(-value, percent)
    if percent:
        return f"{100 * value:.6g}%"
    if value >= 10_000:
        return f"{value / 1000:.6g}k"
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if 0 < value < 1e-3 else f"{value:.6g}"


def value_axis(low: float, high: float, log: bool = False, from_zero: bool = False) -> Axis:
    """The axis of a curve's values; logarithmic only where the values span enough to need it."""
    if log and high / low >= 5 and low > 1e-11 and high < 1e11:
        return log_axis(low, high)
    return linear_axis(min(0.0, low) if from_zero else low, high)


def step_axis(low: float, high: float) -> Axis:
    """The axis of training steps, from the first to the last, with ticks at whole steps."""
    if high <= low:
        return Axis(low - 1, high + 1, (low,))
    ticks = linear_axis(low, high, 7).ticks
    return Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high and tick == int(tick)))
