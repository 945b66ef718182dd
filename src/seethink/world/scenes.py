"""Scenes: named quantities and a picture of them, with one drawing function per domain.

A scene's `values` (colour name -> number, in the order in which they are read) are the whole truth about it;
questions and traces are computed from them alone, so no answer needs a human annotator.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from seethink.world.digits import Split, digit_ink
from seethink.world.draw import CELLS, COLORS, SIZE, Canvas

Draw = Callable[[Canvas, dict[str, int], Split], object]


@dataclass(frozen=True, slots=True)
class Domain:
    """What a domain shows. `noun` names one quantity: "the red digit", "the red bar"."""

    noun: str
    """`{}` is the colour."""
    low: int
    high: int
    draw: Draw
    by_color: bool = False
    """Quantities have no place in the picture, so they are read in the order of COLORS."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth behind a picture."""

    domain: str
    values: dict[str, int]

    def noun(self, name: str) -> str:
        return DOMAINS[self.domain].noun.format(name)


def make_scene(domain: str, num_objects: int, rng: np.random.Generator) -> Scene:
    spec = DOMAINS[domain]
    names = [str(name) for name in rng.permutation(list(COLORS))[:num_objects]]
    if spec.by_color:
        names.sort(key=list(COLORS).index)
    return Scene(domain, {name: int(rng.integers(spec.low, spec.high + 1)) for name in names})


def draw_scene(scene: Scene, split: Split, rng: np.random.Generator) -> Image | None:
    """A picture that belongs to the split. Its content decides its owner, so no two splits share a picture.

    None where fifty layouts of this scene belonged to other splits: the caller then makes another scene.
    """
    for _ in range(50):
        canvas = Canvas(rng)
        layout = DOMAINS[scene.domain].draw(canvas, scene.values, split)
        if owner([scene.domain, scene.values, layout]) == split:
            return canvas.finish()
    return None


def owner(content: object) -> Split:
    """The split that owns a scene's content: 80% train, 10% val, 10% test, by a stable hash."""
    bucket = zlib.crc32(json.dumps(content).encode()) % 10
    return "train" if bucket < 8 else "val" if bucket == 8 else "test"


def _cells(canvas: Canvas, count: int) -> list[tuple[int, tuple[int, int]]]:
    """`count` of the four cells in reading order, each with its number."""
    chosen = sorted(int(i) for i in canvas.rng.permutation(4)[:count])
    return [(i, CELLS[i]) for i in chosen]


def _draw_digits(canvas: Canvas, values: dict[str, int], split: Split) -> object:
    layout = []
    for (cell, (x, y)), (name, value) in zip(_cells(canvas, len(values)), values.items(), strict=True):
        index, ink = digit_ink(split, value, canvas.rng)
        side = int(canvas.rng.integers(22, 28))
        dx, dy = (int(v) for v in canvas.rng.integers(0, 28 - side + 1, size=2))
        canvas.ink(ink, x + dx, y + dy, side, canvas.tint(name))
        layout.append((cell, index))
    return layout


def _draw_bars(canvas: Canvas, values: dict[str, int], split: Split) -> object:
    for unit in range(10):
        shade = (120, 120, 120) if unit % 5 == 0 else (205, 205, 205)
        canvas.line(0, 52 - 5 * unit, SIZE, 52 - 5 * unit, shade, 0.5)
    slots = sorted(int(i) for i in canvas.rng.permutation(4)[: len(values)])
    widths = [int(w) for w in canvas.rng.integers(7, 12, size=len(values))]
    shifts = [int(d) for d in canvas.rng.integers(-1, 2, size=len(values))]
    for slot, width, shift, (name, value) in zip(slots, widths, shifts, values.items(), strict=True):
        canvas.box(14 * slot + (14 - width) / 2 + shift, 52 - 5 * value, width, 5 * value, canvas.tint(name))
    return [slots, widths, shifts]


_PIPS = {
    1: ((0, 0),),
    2: ((-1, -1), (1, 1)),
    3: ((-1, -1), (0, 0), (1, 1)),
    4: ((-1, -1), (1, -1), (-1, 1), (1, 1)),
    5: ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)),
    6: ((-1, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (1, 1)),
}


def _draw_dice(canvas: Canvas, values: dict[str, int], split: Split) -> object:
    layout = []
    for (cell, (x, y)), (name, value) in zip(_cells(canvas, len(values)), values.items(), strict=True):
        dx, dy = (int(v) for v in canvas.rng.integers(1, 6, size=2))
        canvas.box(x + dx, y + dy, 22, 22, canvas.tint(name), radius=4)
        for px, py in _PIPS[value]:
            canvas.disc(x + dx + 11 + 6.5 * px, y + dy + 11 + 6.5 * py, 2.3, (250, 250, 250))
        layout.append((cell, dx, dy))
    return layout


def _draw_shapes(canvas: Canvas, values: dict[str, int], split: Split) -> object:
    places = [int(i) for i in canvas.rng.permutation(16)[: sum(values.values())]]
    kinds = [int(k) for k in canvas.rng.integers(3, size=len(places))]
    owners = [name for name, count in values.items() for _ in range(count)]
    for place, kind, name in zip(places, kinds, owners, strict=True):
        x, y = 14 * (place % 4) + 7, 14 * (place // 4) + 7
        color = canvas.tint(name)
        if kind == 0:
            canvas.disc(x, y, 5, color)
        elif kind == 1:
            canvas.box(x - 4.5, y - 4.5, 9, 9, color)
        else:
            canvas.triangle(x, y + 1, 6, color)
    return [places, kinds]


def _draw_clocks(canvas: Canvas, values: dict[str, int], split: Split) -> object:
    layout = []
    for (cell, (x, y)), (name, value) in zip(_cells(canvas, len(values)), values.items(), strict=True):
        dx, dy = (int(v) for v in canvas.rng.integers(-1, 2, size=2))
        cx, cy = x + 14 + dx, y + 14 + dy
        color = canvas.tint(name)
        hand = int(canvas.rng.integers(7, 10))
        canvas.ring(cx, cy, 12.5, color, 1.2)
        for hour in range(12):
            sin, cos = _clock_angle(hour)
            inner = 9.0 if hour % 3 == 0 else 10.5
            canvas.line(cx + inner * sin, cy - inner * cos, cx + 12 * sin, cy - 12 * cos, color, 0.6)
        sin, cos = _clock_angle(value)
        canvas.line(cx - 2 * sin, cy + 2 * cos, cx + hand * sin, cy - hand * cos, color, 2.2)
        layout.append((cell, dx, dy, hand))
    return layout


def _clock_angle(hour: int) -> tuple[float, float]:
    angle = math.tau * hour / 12
    return math.sin(angle), math.cos(angle)


def _draw_cells(canvas: Canvas, values: dict[str, int], split: Split) -> object:
    layout = []
    for (cell, (x, y)), (name, value) in zip(_cells(canvas, len(values)), values.items(), strict=True):
        color = canvas.tint(name)
        canvas.ring(x + 14, y + 14, 13, color, 1.4)
        spots = [int(i) for i in canvas.rng.permutation(9)[:value]]
        for spot in spots:
            jx, jy = canvas.rng.uniform(-0.8, 0.8, size=2)
            canvas.disc(x + 14 + 6.3 * (spot % 3 - 1) + jx, y + 14 + 6.3 * (spot // 3 - 1) + jy, 2.2, color)
        layout.append((cell, spots))
    return layout


DOMAINS: dict[str, Domain] = {
    "math": Domain("the {} digit", 0, 9, _draw_digits),
    "charts": Domain("the {} bar", 1, 9, _draw_bars),
    "dice": Domain("the {} die", 1, 6, _draw_dice),
    "shapes": Domain("the number of {} shapes", 1, 4, _draw_shapes, by_color=True),
    "clocks": Domain("the {} clock", 1, 12, _draw_clocks),
    "cells": Domain("the number of dots in the {} cell", 1, 6, _draw_cells),
}
"""`math` is the domain that RL trains on; the others are out-of-domain for it."""
OTHER_DOMAINS = tuple(name for name in DOMAINS if name != "math")
