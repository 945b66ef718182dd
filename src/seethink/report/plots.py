"""Forest plots of effects with intervals, and scatter plots with error bars in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seethink.report.axes import Axis, doubling_axis, linear_axis
from seethink.report.svg import HEIGHT, LETTER, RIGHT, WIDTH, Plane, canvas, join, num, short, tag

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
    """The effect that another source reports, such as the paper; drawn as a hollow diamond."""


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
    digits = max(1, 2 - math.floor(math.log10(max(map(abs, ends)) or 1.0)) - 1)
    body += join(_effect(one, HEAD + ROW * place, plane, unit, digits) for place, one in enumerate(effects))
    return canvas(name, body + _sides(plane, sides), bottom + (38 if any(sides) else 24))


def _effect(one: Effect, top: float, plane: Plane, unit: str, digits: int) -> Markup:
    value, low, high = (signed(number, digits) for number in (one.value, one.low, one.high))
    numbers = f"{value} [{low}, {high}]{' ' * bool(unit)}{unit}"
    room = WIDTH - RIGHT - LETTER * len(numbers) - 8
    line, middle = top + 26, plane.x(one.value)
    body = tag('<text class="label halo" x="0" y="{}">{}<title>{}</title></text>',
               num(top + 14), short(one.label, room), one.label)  # fmt: skip
    body += tag('<text class="value halo" x="{}" y="{}" text-anchor="end">{}</text>',
                WIDTH - RIGHT, num(top + 14), numbers)  # fmt: skip
    start, end = num(plane.x(one.low)), num(plane.x(one.high))
    body += tag('<path class="line {}" d="M{} {}H{}M{} {}v8M{} {}v8"/>',
                one.tone, start, num(line), end, start, num(line - 4), end, num(line - 4))  # fmt: skip
    if one.claim is not None:
        body += tag('<path class="claim" d="M{} {}l5 5l-5 5l-5-5z"><title>reported: {}</title></path>',
                    num(plane.x(one.claim)), num(line - 5), signed(one.claim, digits))  # fmt: skip
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


def signed(value: float, digits: int = 1) -> str:
    """`+5.9`, `−9.4`, with a true minus sign; zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


@dataclass(frozen=True, slots=True)
class Dot:
    """One point with the ends of its error bars; `label` is its tooltip."""

    x: float
    y: float
    label: str
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    marked: bool = False
    """Whether the dot is ringed, as the chosen one."""


@dataclass(frozen=True, slots=True)
class Dots:
    """Dots of one colour; `joined` by a line in the order of x."""

    label: str
    tone: str
    dots: Sequence[Dot]
    joined: bool = False


def scatter(
    groups: Sequence[Dots], name: str, x_label: str, y_label: str, y_percent: bool = True, doubling: bool = False
) -> Markup:
    """Dots with error bars; `doubling` puts the powers of two at equal distances, for budgets."""
    groups = [group for group in groups if group.dots]
    if not groups:
        return Markup("")
    dots = [dot for group in groups for dot in group.dots]
    xs = [end for dot in dots for end in (dot.x, *(dot.x_ends or ()))]
    ys = [end for dot in dots for end in (dot.y, *(dot.y_ends or ()))]
    x_axis = doubling_axis(min(xs), max(xs)) if doubling else _padded(min(xs), max(xs))
    plane = Plane(x_axis, linear_axis(min(ys), max(ys), 5), 30, HEIGHT - 28)
    body = plane.y_grid(y_percent) + plane.x_ticks() + plane.named(x_label, y_label)
    return canvas(name, body + join(_dots(group, plane) for group in groups), HEIGHT + 16)


def _padded(low: float, high: float) -> Axis:
    """A linear axis a little wider than the values, with the round ticks that lie on it."""
    pad = 0.06 * (high - low) or abs(low) * 0.1 or 1.0
    ticks = linear_axis(low, high, 5).ticks
    return Axis(low - pad, high + pad, tuple(tick for tick in ticks if low - pad <= tick <= high + pad))


def _dots(group: Dots, plane: Plane) -> Markup:
    body = Markup("")
    dots = sorted(group.dots, key=lambda dot: dot.x)
    if group.joined and len(dots) > 1:
        body += tag('<path class="line {}" d="M{}"/>', group.tone, plane.trace((dot.x, dot.y) for dot in dots))
    return body + join(_dot(dot, group, plane) for dot in dots)


def _dot(dot: Dot, group: Dots, plane: Plane) -> Markup:
    x, y, bars = plane.x(dot.x), plane.y(dot.y), ""
    if dot.x_ends:
        bars += f"M{num(plane.x(dot.x_ends[0]))} {num(y)}H{num(plane.x(dot.x_ends[1]))}"
    if dot.y_ends:
        bars += f"M{num(x)} {num(plane.y(dot.y_ends[0]))}V{num(plane.y(dot.y_ends[1]))}"
    body = tag('<path class="whisker {}" d="{}"/>', group.tone, bars) if bars else Markup("")
    if dot.marked:
        body += tag('<circle class="chosen" cx="{}" cy="{}" r="7.5"/>', num(x), num(y))
    return body + tag('<circle class="dot ring {}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>',
                      group.tone, num(x), num(y), dot.label)  # fmt: skip
