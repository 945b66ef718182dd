"""Charts of results, not of steps: effects with intervals, dots with errors, a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seethink.report.axes import Axis, linear_axis
from seethink.report.svg import LETTER, RIGHT, WIDTH, Plane, canvas, join, num, short, tag

ROW, HEAD = 40, 8
"""Heights in a forest plot: of one effect, and above the first."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of a forest plot, in the chart's unit.

    Example: `Effect("connector frozen − all trained", -9.4, -14.1, -4.7, tone="b", claim=-20.0)`.
    """

    label: str
    value: float
    low: float
    high: float
    tone: str = "a"
    claim: float | None = None
    """What somebody else reports for the same effect; drawn as a hollow diamond."""


def forest(effects: Sequence[Effect], name: str, unit: str = "", sides: tuple[str, str] = ("", "")) -> Markup:
    """Effects with their intervals, one below the other around a line at zero.

    Every effect has its label and its numbers on one line and its interval below, so that long labels keep
    their room on a phone. `unit` follows the numbers ("points"), `sides` says below the axis what lies left
    and right of zero ("worse", "better"). `tone` is a colour class of charts.css, `a` to `f`; a page that
    shows the chart needs charts.css in its style sheet (`seethink.report.html`):

        svg = forest([Effect("RL − SFT", 5.9, 2.1, 9.7)], "RL against SFT", "points", ("SFT", "RL"))
        Figure("RL against SFT", "Out-of-domain accuracy; 95 % intervals over 3 paired seeds, n = 1,500.", svg)

    Empty where there is no effect. Values that are not finite raise ValueError: leave those effects out.
    """
    if not effects:
        return Markup("")
    ends = [end for one in effects for end in (one.low, one.value, one.high, one.claim) if end is not None]
    if not all(map(math.isfinite, ends)):
        raise ValueError("a forest plot draws finite numbers only: leave out the effects without an interval")
    bottom = HEAD + ROW * len(effects) + 4
    axis = linear_axis(min(0.0, *ends), max(0.0, *ends), 6)
    plane = Plane(axis, Axis(0, 1, ()), HEAD, bottom, left=16)
    body = tag('<path class="zero" d="M{} {}V{}"/>', num(plane.x(0)), HEAD, num(bottom)) + plane.x_ticks()
    body += join(_effect(one, HEAD + ROW * place, plane, unit) for place, one in enumerate(effects))
    return canvas(name, body + _sides(plane, sides), bottom + (38 if any(sides) else 24))


def _effect(one: Effect, top: float, plane: Plane, unit: str) -> Markup:
    numbers = f"{signed(one.value)} [{signed(one.low)}, {signed(one.high)}]{' ' * bool(unit)}{unit}"
    room = WIDTH - RIGHT - LETTER * len(numbers) - 8
    line, middle = top + 26, plane.x(one.value)
    body = tag('<text class="label halo" x="0" y="{}">{}<title>{}</title></text>',
               num(top + 14), short(one.label, room), one.label)  # fmt: skip
    body += tag('<text class="value halo" x="{}" y="{}" text-anchor="end">{}</text>',
                WIDTH - RIGHT, num(top + 14), numbers)  # fmt: skip
    low, high = num(plane.x(one.low)), num(plane.x(one.high))
    body += tag('<path class="line {}" d="M{} {}H{}M{} {}v8M{} {}v8"/>',
                one.tone, low, num(line), high, low, num(line - 4), high, num(line - 4))  # fmt: skip
    if one.claim is not None:
        body += tag('<path class="claim" d="M{} {}l5 5l-5 5l-5-5z"><title>reported: {}</title></path>',
                    num(plane.x(one.claim)), num(line - 5), signed(one.claim))  # fmt: skip
    return body + tag('<rect class="bar {}" x="{}" y="{}" width="9" height="9"/>',
                      one.tone, num(middle - 4.5), num(line - 4.5))  # fmt: skip


def _sides(plane: Plane, sides: tuple[str, str]) -> Markup:
    """`← worse` and `better →` on their sides of zero."""
    zero, y = plane.x(0), num(plane.bottom + 33)
    texts = ((zero - 8, "end", f"← {sides[0]}"), (zero + 8, "start", f"{sides[1]} →"))
    return join(
        tag('<text class="name" x="{}" y="{}" text-anchor="{}">{}</text>', num(x), y, anchor, text)
        for (x, anchor, text), side in zip(texts, sides, strict=True) if side
    )  # fmt: skip


def signed(value: float) -> str:
    """`+5.9`, `−9.4`, `+0.012`: with a true minus sign."""
    digits = 1 if abs(value) >= 1 else 2 if abs(value) >= 0.1 else 3
    text = f"{value:+.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")
