"""Small SVG charts without styles of their own: every colour is a class that report.css fills in.

Charts are drawn at 440 x 240 and scale with their column, so that text stays readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seethink.report.load import Points
from seethink.report.redact import visible

WIDTH, HEIGHT = 440, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 28
MAX_POINTS = 300
"""Longer curves are averaged into this many bins."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve; `tone` names a colour class of report.css (`a` to `e`)."""

    label: str
    points: Points
    tone: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a group with its half error bar and its spoken value."""

    value: float
    error: float
    tone: str
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The map from values to pixels, with its tick values."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where the value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, count: int = 5) -> Axis:
    """Round ticks (1, 2 or 5 times a power of ten) around the values."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if rough <= power * factor * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def log_axis(low: float, high: float) -> Axis:
    """Powers of ten around positive values, thinned to at most six; 1, 2 and 5 within two decades."""
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


def tick_text(value: float, percent: bool = False) -> str:
    """`0.25`, `12k`, `1e-4`, `40%`."""
    if percent:
        return f"{100 * value:.6g}%"
    if value and abs(value) >= 10_000:
        return f"{value / 1000:.6g}k"
    return f"{value:.0e}".replace("e-0", "e-") if value and abs(value) < 1e-3 else f"{value:.6g}"


def thin(points: Points, limit: int = MAX_POINTS) -> Points:
    """At most `limit` points: the means of equal runs of neighbours."""
    if len(points) <= limit:
        return points
    size = math.ceil(len(points) / limit)
    return [_middle(points[start : start + size]) for start in range(0, len(points), size)]


def smooth(points: Points, window: int) -> Points:
    """A line fitted to each point's neighbours and read at the point, kept within the values."""
    values = [value for _, value in points]
    low, high, last = min(values), max(values), max(0, len(points) - window)
    result = []
    for index, (step, _) in enumerate(points):
        start = min(max(0, index - window // 2), last)
        result.append((step, min(high, max(low, _fitted(step, points[start : start + window])))))
    return result


def _fitted(step: float, near: Points) -> float:
    count = len(near)
    x_mean, y_mean = sum(x for x, _ in near) / count, sum(y for _, y in near) / count
    spread = sum((x - x_mean) ** 2 for x, _ in near)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in near) / spread if spread else 0.0
    return y_mean + slope * (step - x_mean)


def smoothing_window(count: int) -> int:
    """How many neighbours the thick line takes in: about a twelfth of the run, 1 for short runs."""
    return 1 if count < 16 else 2 * max(1, count // 24) + 1


def line_chart(
    series: Sequence[Series], name: str, percent: bool = False, log: bool = False, from_zero: bool = False
) -> Markup:
    """Curves over steps: each step thin, a smooth of them thick."""
    if log:
        series = [Series(s.label, [(x, y) for x, y in s.points if y > 0], s.tone) for s in series]
    series = [Series(s.label, thin(s.points), s.tone) for s in series if s.points]
    if not series:
        return Markup("")
    values = [value for one in series for _, value in one.points]
    steps = [step for one in series for step, _ in one.points]
    y_axis = _value_axis(min(values), max(values), log, from_zero or percent)
    x_axis = _step_axis(min(steps), max(steps))
    body = _y_grid(y_axis, percent) + _x_ticks(x_axis)
    body += _join(_curve(one, x_axis, y_axis) for one in series)
    return _svg(name, body)


def bar_chart(groups: Sequence[tuple[str, Sequence[Bar | None]]], name: str) -> Markup:
    """Groups of bars between 0 and 100 %, each with its error bar and value."""
    tops = [bar.value + bar.error for _, bars in groups for bar in bars if bar]
    axis = linear_axis(0.0, min(1.0, max([*tops, 0.2]) * 1.08), 4)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    body = _y_grid(axis, percent=True)
    for index, (label, bars) in enumerate(groups):
        left = LEFT + index * room
        body += _tag('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>',
                     _n(left + room / 2), HEIGHT - BOTTOM + 19, _short(label, room))  # fmt: skip
        width = min(44.0, room * 0.84 / max(1, len(bars)))
        start = left + (room - width * len(bars)) / 2
        body += _join(_bar(bar, start + width * place, width, axis) for place, bar in enumerate(bars) if bar)
    return _svg(name, body)


def stacked_bar(parts: Sequence[tuple[str, float, str]], name: str) -> Markup:
    """One bar cut into (label, share, tone)."""
    body, left = Markup(""), 0.0
    for label, share, tone in parts:
        width = WIDTH * share
        body += _tag('<rect class="bar {}" x="{}" y="0" width="{}" height="12"><title>{}</title></rect>',
                     tone, _n(left), _n(max(0.0, width - 1)), label)  # fmt: skip
        left += width
    return _svg(name, body, 12)


def _value_axis(low: float, high: float, log: bool, from_zero: bool) -> Axis:
    if log and high / low >= 5 and low > 1e-11 and high < 1e11:
        return log_axis(low, high)
    return linear_axis(min(0.0, low) if from_zero else low, high)


def _step_axis(low: float, high: float) -> Axis:
    if high <= low:
        return Axis(low - 1, high + 1, (low,))
    ticks = linear_axis(low, high, 7).ticks
    return Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high and tick == int(tick)))


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _curve(series: Series, x_axis: Axis, y_axis: Axis) -> Markup:
    window = smoothing_window(len(series.points))
    if len(series.points) == 1:
        step, value = series.points[0]
        return _tag('<circle class="dot {}" cx="{}" cy="{}" r="3.5"/>',
                    series.tone, _n(_x(x_axis, step)), _n(_y(y_axis, value)))  # fmt: skip
    thick = _path(series.tone, "line", smooth(series.points, window), x_axis, y_axis)
    return (_path(series.tone, "raw", series.points, x_axis, y_axis) if window > 1 else Markup("")) + thick


def _path(tone: str, kind: str, points: Points, x_axis: Axis, y_axis: Axis) -> Markup:
    places = (f"{_n(_x(x_axis, step))} {_n(_y(y_axis, value))}" for step, value in points)
    return _tag('<path class="{} {}" d="M{}"/>', kind, tone, "L".join(places))


def _bar(bar: Bar, left: float, width: float, axis: Axis) -> Markup:
    top, base, middle = _y(axis, bar.value), _y(axis, 0.0), left + width / 2
    high, low = _y(axis, min(bar.value + bar.error, axis.high)), _y(axis, max(bar.value - bar.error, 0.0))
    body = _tag('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>',
                bar.tone, _n(left + 1.5), _n(top), _n(width - 3), _n(base - top), bar.label)  # fmt: skip
    if bar.error:
        caps = "".join(f"M{_n(middle - 4)} {_n(end)}h8" for end in (high, low))
        body += _tag('<path class="error" d="M{} {}V{}{}"/>', _n(middle), _n(high), _n(low), caps)
    return body + _tag('<text class="value" x="{}" y="{}" text-anchor="middle">{}</text>',
                       _n(middle), _n(min(top, high) - 5), f"{100 * bar.value:.1f}")  # fmt: skip


def _y_grid(axis: Axis, percent: bool) -> Markup:
    parts = []
    for tick in axis.ticks:
        place = _n(_y(axis, tick))
        parts.append(_tag('<path class="rule" d="M{} {}H{}"/>', LEFT, place, WIDTH - RIGHT))
        parts.append(_tag('<text x="{}" y="{}" dy="4" text-anchor="end">{}</text>',
                          LEFT - 7, place, tick_text(tick, percent)))  # fmt: skip
    return _join(parts)


def _x_ticks(axis: Axis) -> Markup:
    base = HEIGHT - BOTTOM
    parts = [_tag('<path class="axis" d="M{} {}H{}"/>', LEFT, base, WIDTH - RIGHT)]
    for tick in axis.ticks:
        place = _n(_x(axis, tick))
        parts.append(_tag('<path class="axis" d="M{} {}v4"/>', place, base))
        text = tick_text(tick)
        parts.append(_tag('<text x="{}" y="{}" text-anchor="middle">{}</text>', place, base + 18, text))
    return _join(parts)


def _svg(name: str, body: Markup, height: int = HEIGHT) -> Markup:
    return _tag('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
                WIDTH, height, name, body)  # fmt: skip


def _short(label: str, room: float) -> str:
    limit = max(3, int(room / 6.6))
    return label if len(label) <= limit else label[: limit - 1] + "…"


def _tag(template: str, *values: object) -> Markup:
    """Fill a template; every value that is not markup is made visible and escaped."""
    plain = (value if isinstance(value, Markup | int) else visible(str(value)) for value in values)
    return Markup(template).format(*plain)


def _join(parts: object) -> Markup:
    return Markup("").join(parts)  # type: ignore[arg-type]


def _middle(points: Points) -> tuple[float, float]:
    return points[len(points) // 2][0], sum(value for _, value in points) / len(points)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
