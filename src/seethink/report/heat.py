"""A heat map over steps: the share of each step's tokens in each bin of a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from seethink.report.axes import Axis, linear_axis, step_axis
from seethink.report.charts import Series
from seethink.report.svg import BOTTOM, HEIGHT, RIGHT, WIDTH, Plane, canvas, join, num, tag

SHADES = 9
LOWEST, HIGHEST = 1e-4, 0.3
"""Shares of the lightest and of the darkest shade; the shades between them are even on a logarithmic scale."""
TOP = 34


def shade(share: float) -> int:
    """0 for (nearly) nothing, then 1 to `SHADES`."""
    if share < LOWEST:
        return 0
    place = math.log(share / LOWEST) / math.log(HIGHEST / LOWEST)
    return min(SHADES, 1 + int(place * (SHADES - 1) + 1e-9))


def heat_map(
    steps: Sequence[float],
    shares: Sequence[Sequence[float]],
    edges: Sequence[float],
    name: str,
    lines: Sequence[Series],
) -> Markup:
    """One column per step and one row per bin, with curves over them.

    `shares[i][j]` is the share of the values of `steps[i]` between `edges[j]` and `edges[j + 1]`. The cells of one
    shade are one path, which keeps the drawing small.
    """
    if not steps:
        return Markup("")
    starts = _borders(steps)
    x_axis = step_axis(min(steps), max(steps))
    x_axis = Axis(starts[0], starts[-1], x_axis.ticks)
    rounded = linear_axis(edges[0], edges[-1]).ticks
    plane = Plane(x_axis, Axis(edges[0], edges[-1], tuple(t for t in rounded if t <= edges[-1])), TOP, HEIGHT - BOTTOM)
    cells: dict[int, list[str]] = {}
    for column, row in enumerate(shares):
        left, right = plane.x(starts[column]), plane.x(starts[column + 1])
        for place, share in enumerate(row):
            if level := shade(share):
                top, bottom = plane.y(edges[place + 1]), plane.y(edges[place])
                cells.setdefault(level, []).append(f"M{num(left)} {num(top)}H{num(right)}V{num(bottom)}H{num(left)}z")
    body = plane.y_grid()
    body += join(tag('<path class="cell s{}" d="{}"/>', level, "".join(cells[level])) for level in sorted(cells))
    body += plane.x_ticks() + plane.named(y_label="nats") + _scale()
    for one in lines:
        body += tag('<path class="line over {}" d="M{}"/>', one.tone, plane.trace(one.points))
    return canvas(name, body)


def _borders(steps: Sequence[float]) -> list[float]:
    """The left border of each step's column, and the last right border: half way between neighbours."""
    if len(steps) == 1:
        return [steps[0] - 0.5, steps[0] + 0.5]
    middles = [(one + other) / 2 for one, other in pairwise(steps)]
    return [steps[0] - (middles[0] - steps[0]), *middles, steps[-1] + (steps[-1] - middles[-1])]


def _scale() -> Markup:
    """The key to the shades, above the right half of the drawing."""
    size, right = 11, WIDTH - RIGHT - 38
    left = right - size * SHADES
    body = join(
        tag('<path class="cell s{}" d="M{} 8h{}v9h-{}z"/>', level, left + size * (level - 1), size, size)
        for level in range(1, SHADES + 1)
    )
    texts = (("end", left - 5, f"{100 * LOWEST:g} %"), ("start", right + 5, f"≥ {100 * HIGHEST:g} %"))
    return body + join(
        tag('<text x="{}" y="16" text-anchor="{}">{}</text>', x, anchor, text) for anchor, x, text in texts
    )
