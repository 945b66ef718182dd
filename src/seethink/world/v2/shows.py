"""How things are drawn: one function for each way of showing a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from PIL.Image import Image

from seethink.world.digits import Split
from seethink.world.v2 import masks
from seethink.world.v2.canvas import CELL, SIZE, Canvas
from seethink.world.v2.draws import Draws
from seethink.world.v2.place import SLOTS
from seethink.world.v2.scene import COLUMNS, Thing

SLOT = SIZE // SLOTS
UNIT = 11
"""Pixels per unit of a chart."""
GREY = np.full((SIZE, 3 * SIZE), 70, np.float32)
"""The colour of lines."""
BASE = SIZE - 4
"""The row of a chart's zero."""


def draw_picture(things: Sequence[Thing], palette: str, split: Split, draws: Draws) -> Image:
    """The picture of a scene, with the handwriting of a split."""
    canvas = Canvas(palette, draws)
    kinds = {thing.show for thing in things}
    if kinds & set(CHARTS):
        (kind,) = kinds
        _grid(canvas)
        CHARTS[kind](canvas, things)
    else:
        for thing in things:
            SHOWS[thing.show](canvas, thing, split)
    return canvas.finish()


def corner(canvas: Canvas, cell: int, side: int = masks.SIDE) -> tuple[int, int]:
    """(x, y) of something of `side` pixels, somewhere within its cell."""
    play = CELL - side
    x, y = CELL * (cell % COLUMNS), CELL * (cell // COLUMNS)
    return x + canvas.draws.between(0, play), y + canvas.draws.between(0, play)


def _digits(canvas: Canvas, thing: Thing, split: Split) -> None:
    place = canvas.draws.pick(masks.digit_places(split, thing.value))
    side = canvas.draws.pick(masks.DIGIT_SIDES)
    canvas.stamp(masks.digit(place, side), *corner(canvas, thing.cells[0], side), canvas.tint(thing.name))
    _scratch(canvas, thing)


def _scratch(canvas: Canvas, thing: Thing) -> None:
    if thing.scratched:
        cell = thing.cells[0]
        mask = masks.scratch(canvas.draws.below(2))
        color = canvas.tint("red" if thing.name == "black" else "black")
        canvas.stamp(mask, CELL * (cell % COLUMNS), CELL * (cell // COLUMNS), color)


def _dots(canvas: Canvas, thing: Thing, split: Split) -> None:
    spots = canvas.draws.places(9, thing.value)
    canvas.stamp(masks.dots(spots, 2.7, 7.4), *corner(canvas, thing.cells[0]), canvas.tint(thing.name))
    _scratch(canvas, thing)


def _dice(canvas: Canvas, thing: Thing, split: Split) -> None:
    x, y = corner(canvas, thing.cells[0])
    canvas.stamp(masks.card(), x, y, canvas.tint(thing.name))
    canvas.stamp(masks.dots(masks.PIPS[thing.value], 2.4, 6.4), x, y, canvas.palette.ink(canvas.draws))


def _clocks(canvas: Canvas, thing: Thing, split: Split) -> None:
    x, y = corner(canvas, thing.cells[0])
    color = canvas.tint(thing.name)
    canvas.stamp(masks.clock(0), x, y, color)
    canvas.stamp(masks.clock(thing.value), x, y, color)


def _tallies(canvas: Canvas, thing: Thing, split: Split) -> None:
    canvas.stamp(masks.tally(thing.value), *corner(canvas, thing.cells[0]), canvas.tint(thing.name))


def _roman(canvas: Canvas, thing: Thing, split: Split) -> None:
    canvas.stamp(masks.roman(thing.value), *corner(canvas, thing.cells[0]), canvas.tint(thing.name))


def _gauges(canvas: Canvas, thing: Thing, split: Split) -> None:
    canvas.stamp(masks.gauge(thing.value), *corner(canvas, thing.cells[0]), canvas.tint(thing.name))


def _shapes(canvas: Canvas, thing: Thing, split: Split) -> None:
    for cell in thing.cells:
        mask = masks.shape(canvas.draws.below(masks.NUM_SHAPES))
        canvas.stamp(mask, *corner(canvas, cell, mask.shape[0]), canvas.tint(thing.name))


def _emoji(canvas: Canvas, thing: Thing, split: Split) -> None:
    mask, colors = masks.emoji(thing.name)
    for cell in thing.cells:
        canvas.stamp(mask, *corner(canvas, cell, mask.shape[0]), colors)


def _arrows(canvas: Canvas, thing: Thing, split: Split) -> None:
    (cell,) = thing.cells
    x, y = CELL * (cell % COLUMNS), CELL * (cell // COLUMNS)
    color = canvas.tint(thing.name)
    canvas.stamp(masks.disc(8.5), x + 5, y + 5, color)
    canvas.stamp(masks.arrow(thing.arrow, 8), x, y, color)


def _numbered(canvas: Canvas, thing: Thing, split: Split) -> None:
    (cell,) = thing.cells
    x, y = CELL * (cell % COLUMNS), CELL * (cell // COLUMNS)
    color = canvas.tint(thing.name)
    place = canvas.draws.pick(masks.digit_places(split, thing.value))
    canvas.stamp(masks.digit(place, 18), x + 5, y + 5, color)
    canvas.stamp(masks.arrow(thing.arrow, 4.5), x, y, color)


def _grid(canvas: Canvas) -> None:
    for unit in range(10):
        canvas.stamp(masks.line(0.5 if unit % 3 == 0 else 0.18), 0, BASE - UNIT * unit, GREY)


def _bars(canvas: Canvas, things: Sequence[Thing]) -> None:
    for thing in things:
        width = canvas.draws.between(8, 12)
        left = SLOT * thing.cells[0] + canvas.draws.between(0, SLOT - width)
        color = canvas.tint(thing.name)
        for top in range(BASE - UNIT * thing.value, BASE, CELL):
            canvas.stamp(masks.block(width, min(CELL, BASE - top)), left, top, color)


def _line(canvas: Canvas, things: Sequence[Thing]) -> None:
    at = [(SLOT * thing.cells[0] + SLOT // 2, BASE - UNIT * thing.value) for thing in things]
    for (x0, y0), (x1, y1) in pairwise(at):
        canvas.stamp(masks.segment(y0 - y1, x1 - x0), x0, min(y0, y1) - 2, GREY)
    for (x, y), thing in zip(at, things, strict=True):
        canvas.stamp(masks.disc(4.5), x - 5, y - 5, canvas.tint(thing.name))


SHOWS: dict[str, Callable[[Canvas, Thing, Split], None]] = {
    "digits": _digits,
    "dots": _dots,
    "dice": _dice,
    "clocks": _clocks,
    "tallies": _tallies,
    "roman": _roman,
    "gauges": _gauges,
    "shapes": _shapes,
    "emoji": _emoji,
    "arrows": _arrows,
    "numbered": _numbered,
}
CHARTS: dict[str, Callable[[Canvas, Sequence[Thing]], None]] = {"bars": _bars, "line": _line}


def middle(thing: Thing) -> tuple[float, float]:
    """(x, y) of the middle of a thing, as shares of the picture's width and height; of several the mean."""
    if thing.show in CHARTS:
        height = UNIT * thing.value / (2 if thing.show == "bars" else 1)
        return (SLOT * thing.cells[0] + SLOT / 2) / SIZE, (BASE - height) / SIZE
    xs = [(cell % COLUMNS + 0.5) / COLUMNS for cell in thing.cells]
    ys = [(cell // COLUMNS + 0.5) / COLUMNS for cell in thing.cells]
    return sum(xs) / len(xs), sum(ys) / len(ys)
