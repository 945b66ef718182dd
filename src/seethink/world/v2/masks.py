"""Masks of everything that pictures are made of: drawn at four times their size, reduced, and kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from seethink.world.digits import SPLITS, Split, load_digits
from seethink.world.v2.canvas import CELL, SIZE, Mask
from seethink.world.v2.names import EMOJI

SCALE = 4
SIDE = CELL - 4
"""Pixels per side of a thing in a cell, which leaves two of play on every side."""
DIGIT_SIDES = (18, 20, 22, 24)
_POOLS: dict[Split, tuple[int, int]] = {"train": (0, 1200), "val": (1200, 1400), "test": (1400, 1797)}

Pen = Callable[[ImageDraw.ImageDraw, Callable[..., list[float]]], None]
"""Draws with the pen, after scaling coordinates by the second argument."""


def drawn(width: int, height: int, paint: Pen) -> Mask:
    """The mask of `width` x `height` pixels that `paint` draws."""
    image = Image.new("L", (width * SCALE, height * SCALE))
    paint(ImageDraw.Draw(image), lambda *values: [v * SCALE for v in values])
    return _channels(np.asarray(image.reduce(SCALE), np.float32) / np.float32(255))


def _channels(mask: NDArray[np.float32]) -> Mask:
    """[height, width] -> [height, 3 * width]: every number three times."""
    return np.repeat(mask, 3, axis=1)


def _pixels(mask: Mask) -> NDArray[np.float32]:
    """The reverse of `_channels`."""
    return mask[:, ::3]


@cache
def _pool(split: Split) -> tuple[NDArray[np.uint8], tuple[tuple[int, ...], ...]]:
    """(all ink, the places of each value's digits in a split's pool)."""
    ink, labels = load_digits()
    low, high = _POOLS[split]
    return ink, tuple(tuple(int(i) for i in np.flatnonzero(labels == v) if low <= i < high) for v in range(10))


def digit_places(split: Split, value: int) -> tuple[int, ...]:
    """Which handwritten digits show `value` in a split: the pools of `seethink.world.digits`."""
    return _pool(split)[1][value]


@cache
def digit(place: int, side: int) -> Mask:
    """A handwritten digit at `side` x `side` pixels, a little bolder than its ink."""
    ink = _pool(SPLITS[0])[0][place].astype(np.float32) * 15
    mask = Image.fromarray(ink.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return _channels(np.minimum(np.asarray(mask, np.float32) / 215, 1.0))


@cache
def disc(radius: float) -> Mask:
    side = math.ceil(2 * radius) + 1
    return drawn(side, side, lambda pen, at: pen.ellipse(at(0.5, 0.5, 0.5 + 2 * radius, 0.5 + 2 * radius), fill=255))


@cache
def card() -> Mask:
    """A rounded square."""
    box = (0.5, 0.5, SIDE - 1.5, SIDE - 1.5)
    return drawn(SIDE, SIDE, lambda pen, at: pen.rounded_rectangle(at(*box), 4 * SCALE, fill=255))


@cache
def dots(spots: tuple[int, ...], radius: float, apart: float) -> Mask:
    """Dots on some of the nine places of a 3 x 3 lattice, `apart` pixels from one to the next."""

    def paint(pen: ImageDraw.ImageDraw, at: Callable[..., list[float]]) -> None:
        for spot in spots:
            x, y = SIDE / 2 - 0.5 + apart * (spot % 3 - 1), SIDE / 2 - 0.5 + apart * (spot // 3 - 1)
            pen.ellipse(at(x - radius, y - radius, x + radius, y + radius), fill=255)

    return drawn(SIDE, SIDE, paint)


PIPS = {1: (4,), 2: (0, 8), 3: (0, 4, 8), 4: (0, 2, 6, 8), 5: (0, 2, 4, 6, 8), 6: (0, 2, 3, 5, 6, 8)}
"""Places of a die's pips on the lattice."""


@cache
def clock(hour: int) -> Mask:
    """A face with twelve marks, or (hour above 0) one hand."""
    centre = SIDE / 2

    def paint(pen: ImageDraw.ImageDraw, at: Callable[..., list[float]]) -> None:
        def line(turn: float, inner: float, outer: float, width: int) -> None:
            sin, cos = math.sin(math.tau * turn / 12), math.cos(math.tau * turn / 12)
            ends = at(centre + inner * sin, centre - inner * cos, centre + outer * sin, centre - outer * cos)
            pen.line(ends, fill=255, width=width)

        if hour:
            line(hour, -2.0, 8.2, 11)
            return
        pen.ellipse(at(0.5, 0.5, SIDE - 1, SIDE - 1), outline=255, width=6)
        for mark in range(12):
            line(mark, 8.5 if mark % 3 == 0 else 9.8, 11, 5 if mark % 3 == 0 else 3)

    return drawn(SIDE, SIDE, paint)


@cache
def tally(value: int) -> Mask:
    """Strokes in bundles of five, the fifth across the four."""

    def paint(pen: ImageDraw.ImageDraw, at: Callable[..., list[float]]) -> None:
        for stroke in range(value):
            bundle, place = divmod(stroke, 5)
            top = 1.0 + 12 * bundle
            if place == 4:
                pen.line(at(1.0, top + 9.0, SIDE - 1.0, top + 1.0), fill=255, width=7)
            else:
                x = 3.5 + 5.6 * place
                pen.line(at(x, top, x, top + 10), fill=255, width=8)

    return drawn(SIDE, SIDE, paint)


ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
_WIDTHS = {"I": 4.0, "V": 9.0, "X": 9.0}


@cache
def roman(value: int) -> Mask:
    """A Roman numeral in strokes."""
    text = ROMAN[value]
    left = (SIDE - sum(_WIDTHS[letter] for letter in text)) / 2

    def paint(pen: ImageDraw.ImageDraw, at: Callable[..., list[float]]) -> None:
        x, top, bottom = left, 5.0, SIDE - 5.0
        for letter in text:
            wide = _WIDTHS[letter]
            middle, right = x + wide / 2, x + wide - 1
            strokes = {
                "I": [(middle, top, middle, bottom)],
                "V": [(x + 1, top, middle, bottom), (right, top, middle, bottom)],
                "X": [(x + 1, top, right, bottom), (right, top, x + 1, bottom)],
            }[letter]
            for stroke in strokes:
                pen.line(at(*stroke), fill=255, width=8)
            x += wide

    return drawn(SIDE, SIDE, paint)


@cache
def gauge(value: int) -> Mask:
    """A tube, filled to `value` of nine marks; the marks stand on its right."""

    def paint(pen: ImageDraw.ImageDraw, at: Callable[..., list[float]]) -> None:
        pen.rectangle(at(6, 0.5, 14, SIDE - 1), outline=255, width=4)
        bottom = SIDE - 1.5
        pen.rectangle(at(7, bottom - 2.4 * value, 13, bottom), fill=255)
        for mark in range(10):
            long = 5.0 if mark % 3 == 0 else 2.5
            pen.line(at(15, bottom - 2.4 * mark, 15 + long, bottom - 2.4 * mark), fill=255, width=3)

    return drawn(SIDE, SIDE, paint)


@cache
def shape(kind: int) -> Mask:
    """A disc, a square or a triangle, 19 pixels wide."""
    side = 20
    corners = (side / 2, 1.0, side - 0.5, side - 2.0, 0.5, side - 2.0)
    return drawn(
        side,
        side,
        (
            lambda pen, at: pen.ellipse(at(1, 1, side - 1.5, side - 1.5), fill=255),
            lambda pen, at: pen.rectangle(at(2, 2, side - 2.5, side - 2.5), fill=255),
            lambda pen, at: pen.polygon(at(*corners), fill=255),
        )[kind],
    )


NUM_SHAPES = 3


@cache
def arrow(way: str, length: float) -> Mask:
    """The tip of an arrow at the edge of a cell: drawn to the right, then turned."""
    middle = CELL / 2 - 0.5
    back, half = CELL - 0.5 - length, 6.5 if length > 6 else 5.0

    def paint(pen: ImageDraw.ImageDraw, at: Callable[..., list[float]]) -> None:
        pen.polygon(at(back, middle - half, CELL - 0.5, middle, back, middle + half), fill=255)

    turns = {"right": 0, "up": 1, "left": 2, "down": 3}[way]
    return _channels(np.rot90(_pixels(drawn(CELL, CELL, paint)), turns))


@cache
def scratch(kind: int) -> Mask:
    """A zigzag along the upper or the lower edge of a cell, where it hides nothing."""
    points = [v for i in range(7) for v in (2 + 4 * i, 1.5 + 3 * (i % 2))]
    mask = drawn(CELL, CELL, lambda pen, at: pen.line(at(*points), fill=255, width=7, joint="curve"))
    return mask[::-1] if kind else mask


@cache
def segment(rise: int, width: int) -> Mask:
    """A line over `width` pixels that rises by `rise`, with two pixels to spare above and below."""
    height = abs(rise) + 5
    y0, y1 = (height - 2.5, 2.5) if rise >= 0 else (2.5, height - 2.5)
    return drawn(width, height, lambda pen, at: pen.line(at(0, y0, width, y1), fill=255, width=6))


@cache
def line(strength: float) -> Mask:
    """One row of pixels across the picture."""
    return np.full((1, 3 * SIZE), strength, np.float32)


@cache
def block(width: int, height: int) -> Mask:
    """A rectangle that covers."""
    return np.ones((height, 3 * width), np.float32)


@cache
def emoji(name: str) -> tuple[Mask, NDArray[np.float32]]:
    """(mask, colours [24, 3 * 24]) of a picture: Twemoji, CC BY 4.0."""
    with Image.open(Path(__file__).parents[1] / "assets" / "emoji.png") as sheet:
        pixels = np.asarray(sheet.convert("RGBA"), np.float32)
    own = pixels[:, 24 * EMOJI.index(name) :][:, :24]
    return _channels(own[:, :, 3] / np.float32(255)), own[:, :, :3].reshape(24, 72)
