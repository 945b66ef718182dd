"""Charts over steps and of shares: curves in one or more panels, bars with errors, stacked bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from seethink.report.axes import Axis, linear_axis, step_axis, value_axis
from seethink.report.load import Points
from seethink.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plane, canvas, join, num, short, tag

TONES = ("a", "b", "c", "d", "e")
"""Colour classes of charts.css that every reader can tell apart, in their order of use."""
MAX_POINTS = 300
"""Longer curves are averaged into this many bins."""
PANEL, GAP = 132, 36
"""The height of each of several panels, and of the space above it for its name."""
LANE = 30
"""The height of a lane: its name, and its dots below the name."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve; `tone` names a colour class of charts.css (`a` to `f`)."""

    label: str
    points: Points
    tone: str
    band: tuple[Points, Points] | None = None
    """The lower and the upper edge of a shaded band around the curve."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share a vertical axis. `name` stands above it where there are several panels."""

    series: Sequence[Series]
    name: str = ""
    percent: bool = False
    log: bool = False
    from_zero: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """An event at a step; `label` is its tooltip."""

    step: float
    tone: str
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a group; `error` is half its error bar, `label` its tooltip."""

    value: float
    error: float
    tone: str
    label: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawn chart with its caption; `figure.html.j2` shows it."""

    title: str
    note: str
    svg: Markup
    legend: Sequence[tuple[str, str]] = ()
    """(label, tone) of each colour."""


def thin(points: Points, limit: int = MAX_POINTS) -> Points:
    """At most `limit` points, each the mean of an equal number of neighbours."""
    if len(points) <= limit:
        return points
    size = math.ceil(len(points) / limit)
    return [_middle(points[start : start + size]) for start in range(0, len(points), size)]


def smooth(points: Points, window: int) -> Points:
    """Local linear regression: at each point, the line fitted to its neighbours, clamped to the values' range."""
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
    """The number of points per fit of `smooth`: about a twelfth of the run, 1 for short runs."""
    return 1 if count < 16 else 2 * max(1, count // 24) + 1


def line_chart(
    series: Sequence[Series], name: str, percent: bool = False, log: bool = False, from_zero: bool = False
) -> Markup:
    """Curves over steps: a thin line through each step, a thick line for the smooth; empty without drawable points."""
    return panel_chart([Panel(series, "", percent, log, from_zero)], name)


def panel_chart(panels: Sequence[Panel], name: str, lanes: Sequence[tuple[str, Sequence[Mark]]] = ()) -> Markup:
    """Panels one below the other over the same steps, and below them a lane of marks for each of `lanes`.

    A mark also runs through the panels as a hairline, so that one sees what the curves did there.
    """
    panels = [panel for panel in map(_drawable, panels) if panel.series]
    if not panels:
        return Markup("")
    marks = [mark for _, lane in lanes for mark in lane]
    steps = [x for panel in panels for one in panel.series for x, _ in one.points] + [mark.step for mark in marks]
    x_axis = step_axis(min(steps), max(steps))
    planes = _planes(panels, x_axis)
    floor = planes[-1].bottom + LANE * len(lanes) + 6 * bool(lanes)
    body = join(_hairline(mark, planes, floor) for mark in marks)
    for panel, plane in zip(panels, planes, strict=True):
        numbers = plane is planes[-1] and not lanes
        body += plane.y_grid(panel.percent) + plane.x_ticks(numbers=numbers) + plane.named(y_label=panel.name)
        body += join(_curve(one, plane) for one in panel.series)
    body += _lanes(lanes, planes[-1], floor)
    return canvas(name, body, floor + BOTTOM)


def bar_chart(groups: Sequence[tuple[str, Sequence[Bar | None]]], name: str) -> Markup:
    """Groups of bars between 0 and 100 %, each with its error bar and value."""
    tops = [bar.value + bar.error for _, bars in groups for bar in bars if bar]
    axis = linear_axis(0.0, min(1.0, max([*tops, 0.2]) * 1.08), 4)
    plane = Plane(Axis(0, 1, ()), axis)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    body = plane.y_grid(percent=True)
    for index, (label, bars) in enumerate(groups):
        left = LEFT + index * room
        body += tag('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>',
                    num(left + room / 2), HEIGHT - BOTTOM + 19, short(label, room))  # fmt: skip
        width = min(44.0, room * 0.84 / max(1, len(bars)))
        start = left + (room - width * len(bars)) / 2
        body += join(_bar(bar, start + width * place, width, plane) for place, bar in enumerate(bars) if bar)
    return canvas(name, body)


def stacked_bar(parts: Sequence[tuple[str, float, str]], name: str) -> Markup:
    """One bar that is divided into parts of (label, share, tone)."""
    body, left = Markup(""), 0.0
    for label, share, tone in parts:
        width = WIDTH * share
        body += tag('<rect class="bar {}" x="{}" y="0" width="{}" height="12"><title>{}</title></rect>',
                    tone, num(left), num(max(0.0, width - 1)), label)  # fmt: skip
        left += width
    return canvas(name, body, 12)


def _drawable(panel: Panel) -> Panel:
    """The panel's curves that have points, thinned; a logarithmic axis cannot show 0 and below."""
    series = [_thinned(one, panel.log) for one in panel.series]
    return replace(panel, series=[one for one in series if one.points])


def _thinned(one: Series, log: bool) -> Series:
    def kept(points: Points) -> Points:
        return thin([(x, y) for x, y in points if y > 0] if log else points)

    band = (kept(one.band[0]), kept(one.band[1])) if one.band else None
    return replace(one, points=kept(one.points), band=band)


def _planes(panels: Sequence[Panel], x_axis: Axis) -> list[Plane]:
    planes, top = [], float(GAP if panels[0].name else TOP)
    height = HEIGHT - TOP - BOTTOM if len(panels) == 1 else PANEL
    for panel in panels:
        edges = [edge for one in panel.series for edge in (one.points, *(one.band or ()))]
        values = [value for points in edges for _, value in points]
        axis = value_axis(min(values), max(values), panel.log, panel.from_zero or panel.percent)
        planes.append(Plane(x_axis, axis, top, top + height))
        top += height + GAP
    return planes


def _hairline(mark: Mark, planes: Sequence[Plane], floor: float) -> Markup:
    return tag('<path class="mark {}" d="M{} {}V{}"/>', mark.tone,
               num(planes[0].x(mark.step)), num(planes[0].top), num(floor))  # fmt: skip


def _lanes(lanes: Sequence[tuple[str, Sequence[Mark]]], plane: Plane, floor: float) -> Markup:
    """One line of dots per lane under the lane's name, and the numbers of the steps below the last lane."""
    body = Markup("")
    for place, (label, marks) in enumerate(lanes):
        y = plane.bottom + 6 + LANE * place + 22
        body += tag('<text class="halo" x="{}" y="{}">{}</text>', num(plane.left + 2), num(y - 8), label)
        body += tag('<path class="rule" d="M{} {}H{}"/>', num(plane.left), num(y), num(plane.right))
        for mark in marks:
            body += tag('<circle class="dot ring {}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>',
                        mark.tone, num(plane.x(mark.step)), num(y), mark.label)  # fmt: skip
    return body + replace(plane, bottom=floor).x_ticks() if lanes else body


def _curve(series: Series, plane: Plane) -> Markup:
    window = smoothing_window(len(series.points))
    body = _band(series, plane)
    if len(series.points) == 1:
        step, value = series.points[0]
        return body + tag('<circle class="dot {}" cx="{}" cy="{}" r="3.5"/>',
                          series.tone, num(plane.x(step)), num(plane.y(value)))  # fmt: skip
    if window > 1:
        body += _path(series.tone, "raw", plane.trace(series.points))
    return body + _path(series.tone, "line", plane.trace(smooth(series.points, window)))


def _band(series: Series, plane: Plane) -> Markup:
    if series.band is None or len(series.band[0]) < 2:
        return Markup("")
    low, high = (smooth(edge, smoothing_window(len(edge))) for edge in series.band)
    return _path(series.tone, "band", f"{plane.trace(high)}L{plane.trace(reversed(low))}z")


def _path(tone: str, kind: str, trace: str) -> Markup:
    return tag('<path class="{} {}" d="M{}"/>', kind, tone, trace)


def _bar(bar: Bar, left: float, width: float, plane: Plane) -> Markup:
    top, base, middle = plane.y(bar.value), plane.y(0.0), left + width / 2
    high, low = plane.y(min(bar.value + bar.error, plane.y_axis.high)), plane.y(max(bar.value - bar.error, 0.0))
    body = tag('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>',
               bar.tone, num(left + 1.5), num(top), num(width - 3), num(base - top), bar.label)  # fmt: skip
    if bar.error:
        caps = "".join(f"M{num(middle - 4)} {num(end)}h8" for end in (high, low))
        body += tag('<path class="error" d="M{} {}V{}{}"/>', num(middle), num(high), num(low), caps)
    return body + tag('<text class="value" x="{}" y="{}" text-anchor="middle">{}</text>',
                      num(middle), num(min(top, high) - 5), f"{100 * bar.value:.1f}")  # fmt: skip


def _middle(points: Points) -> tuple[float, float]:
    return points[len(points) // 2][0], sum(value for _, value in points) / len(points)
