"""Scores from 0 to 100 with their intervals, one benchmark below the other, beside published figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from seethink.report.axes import Axis
from seethink.report.svg import LETTER, RIGHT, WIDTH, Plane, canvas, join, num, short, tag

_HEAD, _ROW, _LINE = 6, 40, 16
_AXIS = Axis(0, 100, (0, 20, 40, 60, 80, 100))


@dataclass(frozen=True, slots=True)
class Whisker:
    """One model's score on a benchmark, in percent; an end that is NaN draws no interval."""

    value: float
    low: float
    high: float
    tone: str = "a"


@dataclass(frozen=True, slots=True)
class Line:
    """One benchmark."""

    label: str
    whiskers: Sequence[Whisker]
    paper: float
    """NaN without a figure."""
    chance: float
    peers: Mapping[str, float] = field(default_factory=dict)


def whisker_chart(lines: Sequence[Line], name: str) -> Markup:
    """Squares with whiskers: the models; a diamond: the paper; small rings: other models; a dashed line: chance."""
    rows = max((len(line.whiskers) for line in lines), default=1)
    height = _ROW + _LINE * (rows - 1)
    bottom = _HEAD + height * len(lines) + 4
    plane = Plane(_AXIS, Axis(0, 1, ()), _HEAD, bottom, left=4)
    body = plane.x_ticks() + join(_line(one, _HEAD + height * n, plane) for n, one in enumerate(lines))
    return canvas(name, body, bottom + 24)


def _line(one: Line, top: float, plane: Plane) -> Markup:
    numbers = " · ".join(_shown(whisker) for whisker in one.whiskers)
    room = WIDTH - RIGHT - LETTER * len(numbers) - 8
    body = tag('<text class="label halo" x="0" y="{}">{}<title>{}</title></text>',
               num(top + 14), short(one.label, room), one.label)  # fmt: skip
    body += tag(
        '<text class="value halo" x="{}" y="{}" text-anchor="end">{}</text>', WIDTH - RIGHT, num(top + 14), numbers
    )
    first, last = top + 26, top + 26 + _LINE * (len(one.whiskers) - 1)
    body += tag('<path class="rule" d="M{} {}H{}"/>', num(plane.left), num(first), num(plane.right))
    if one.chance > 0:
        place = num(plane.x(100 * one.chance))
        body += tag('<path class="mark ink" d="M{} {}V{}"><title>chance {}</title></path>',
                    place, num(first - 7), num(last + 7), f"{100 * one.chance:.1f}")  # fmt: skip
    for name, value in one.peers.items():
        body += tag('<circle class="chosen" cx="{}" cy="{}" r="3"><title>{}: {}</title></circle>',
                    num(plane.x(value)), num(first), name, f"{value:g}")  # fmt: skip
    if not math.isnan(one.paper):
        body += tag('<path class="claim" d="M{} {}l5 5l-5 5l-5-5z"><title>paper: {}</title></path>',
                    num(plane.x(one.paper)), num(first - 5), f"{one.paper:g}")  # fmt: skip
    return body + join(_whisker(w, first + _LINE * n, plane) for n, w in enumerate(one.whiskers))


def _whisker(one: Whisker, y: float, plane: Plane) -> Markup:
    body = Markup("")
    if math.isfinite(one.low) and math.isfinite(one.high):
        start, end = num(plane.x(one.low)), num(plane.x(one.high))
        body += tag('<path class="line {}" d="M{} {}H{}M{} {}v8M{} {}v8"/>',
                    one.tone, start, num(y), end, start, num(y - 4), end, num(y - 4))  # fmt: skip
    return body + tag('<rect class="bar {}" x="{}" y="{}" width="9" height="9"/>',
                      one.tone, num(plane.x(one.value) - 4.5), num(y - 4.5))  # fmt: skip


def _shown(one: Whisker) -> str:
    if not math.isfinite(one.low):
        return f"{one.value:.1f}"
    return f"{one.value:.1f} [{one.low:.1f}, {one.high:.1f}]"
