"""The parts of every chart: escaped tags, a plane with two axes, grid lines and ticks.

There are no styles here: every colour is a class that charts.css fills in. Charts are 440 wide and scale
with their column, so that text stays readable on a phone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from seethink.core.redact import visible
from seethink.report.axes import Axis, tick_text

WIDTH, HEIGHT = 440, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 28
LETTER = 6.6
"""The average width of a letter, in pixels."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A rectangle of the drawing, in pixels from the upper left corner, with its two axes."""

    x_axis: Axis
    y_axis: Axis
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM
    left: float = LEFT
    right: float = WIDTH - RIGHT

    def x(self, value: float) -> float:
        return self.left + self.x_axis.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - self.y_axis.share(value) * (self.bottom - self.top)

    def y_grid(self, percent: bool = False) -> Markup:
        """A rule and a number at each tick of the vertical axis."""
        parts = []
        for tick in self.y_axis.ticks:
            place = num(self.y(tick))
            parts.append(tag('<path class="rule" d="M{} {}H{}"/>', num(self.left), place, num(self.right)))
            parts.append(tag('<text x="{}" y="{}" dy="4" text-anchor="end">{}</text>',
                             num(self.left - 7), place, tick_text(tick, percent)))  # fmt: skip
        return join(parts)

    def x_ticks(self, numbers: bool = True) -> Markup:
        """The horizontal axis with its ticks, and their numbers below."""
        parts = [tag('<path class="axis" d="M{} {}H{}"/>', num(self.left), num(self.bottom), num(self.right))]
        for tick in self.x_axis.ticks:
            place = num(self.x(tick))
            parts.append(tag('<path class="axis" d="M{} {}v4"/>', place, num(self.bottom)))
            if numbers:
                parts.append(tag('<text x="{}" y="{}" text-anchor="middle">{}</text>',
                                 place, num(self.bottom + 18), tick_text(tick)))  # fmt: skip
        return join(parts)

    def named(self, x_label: str = "", y_label: str = "") -> Markup:
        """The names of the axes: of the horizontal one below its numbers, of the vertical one above its upper end."""
        body = Markup("")
        if x_label:
            body += tag('<text class="name" x="{}" y="{}" text-anchor="end">{}</text>',
                        num(self.right), num(self.bottom + 33), x_label)  # fmt: skip
        if y_label:
            body += tag('<text class="name" x="{}" y="{}">{}</text>',
                        num(self.left - 40), num(self.top - 12), y_label)  # fmt: skip
        return body

    def trace(self, points: Iterable[tuple[float, float]]) -> str:
        """The points as the data of a path."""
        return "L".join(f"{num(self.x(x))} {num(self.y(y))}" for x, y in points)


def canvas(name: str, body: Markup, height: float = HEIGHT) -> Markup:
    """The finished drawing; `name` is read out by screen readers."""
    return tag('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
               WIDTH, num(height), name, body)  # fmt: skip


def tag(template: str, *values: object) -> Markup:
    """Fill a template; every value that is not markup is made visible and escaped."""
    plain = (value if isinstance(value, Markup | int) else visible(str(value)) for value in values)
    return Markup(template).format(*plain)


def join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def num(value: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def short(label: str, room: float) -> str:
    """The label, cut to what fits in `room` pixels."""
    limit = max(3, int(room / LETTER))
    return label if len(label) <= limit else label[: limit - 1] + "…"
