"""Values and where they stand in the 4 x 4 cells of a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import isqrt
from pathlib import Path

from seethink.world.v2.draws import Draws
from seethink.world.v2.names import COLORS, EMOJI
from seethink.world.v2.scene import COLUMNS, NUM_CELLS, Domain, Thing

TABLES = Path(__file__).parents[1] / "assets" / "tables.json"
SLOTS = 8
"""Places side by side in a chart."""
MOST_COUNTED = 6
"""Most shapes of one colour."""
TOP = 9
"""The highest value of a chart."""


def count_of(domain: Domain, level: int) -> int:
    """How many values a level asks for."""
    return min(level, domain.most)


def named_values(domain: Domain, count: int, draws: Draws) -> tuple[list[str], list[int]]:
    """`count` names and their values."""
    show = domain.shows[0]
    names = draws.some(EMOJI if show == "emoji" else COLORS, count)
    if show in COUNTED:
        return names, _counts(count, draws)
    if show == "line":
        return names, real_series(count, draws)
    return names, [draws.between(domain.low, domain.high) for _ in names]


def place(domain: Domain, names: Sequence[str], values: Sequence[int], draws: Draws) -> tuple[Thing, ...]:
    """The things in reading order. Counted things are read in the order of their names' lists."""
    show = domain.shows[0]
    if show in COUNTED:
        return _scattered(show, names, values, draws)
    cells = draws.places(SLOTS if show in CHARTS else NUM_CELLS, len(names))
    shows = [show if len(domain.shows) == 1 else draws.pick(domain.shows) for _ in names]
    return tuple(
        Thing(name, value, (cell,), own) for name, value, cell, own in zip(names, values, cells, shows, strict=True)
    )


def _counts(count: int, draws: Draws) -> list[int]:
    """So many numbers from 1 to 6 that all their things find room, in random order."""
    counts: list[int] = []
    for left in reversed(range(count)):
        room = NUM_CELLS - sum(counts) - left
        counts.append(draws.between(1, min(MOST_COUNTED, room)))
    return draws.shuffled(counts)


def _scattered(show: str, names: Sequence[str], values: Sequence[int], draws: Draws) -> tuple[Thing, ...]:
    cells = draws.some(range(NUM_CELLS), sum(values))
    things = []
    for name, value in zip(names, values, strict=True):
        own, cells = cells[:value], cells[value:]
        things.append(Thing(name, value, tuple(sorted(own)), show))
    order = EMOJI if show == "emoji" else COLORS
    return tuple(sorted(things, key=lambda thing: order.index(thing.name)))


def elsewhere(things: Sequence[Thing], draws: Draws) -> list[tuple[int, ...]]:
    """Other cells for each thing, drawn as the first were: the reading order, and what stands beside what, stay."""
    first = things[0]
    if first.arrow:
        return _moved_square(things, draws)
    if first.show in COUNTED:
        cells = draws.some(range(NUM_CELLS), sum(thing.value for thing in things))
        ends = list(accumulate(thing.value for thing in things))
        return [tuple(sorted(cells[end - thing.value : end])) for end, thing in zip(ends, things, strict=True)]
    if len(things) > 1 and first.name == things[1].name:
        pairs = draws.places(NUM_CELLS // 2, len(things) // 2)
        return [(2 * pairs[i // 2] + thing.cells[0] % 2,) for i, thing in enumerate(things)]
    return [(cell,) for cell in draws.places(SLOTS if first.show in CHARTS else NUM_CELLS, len(things))]


def _moved_square(things: Sequence[Thing], draws: Draws) -> list[tuple[int, ...]]:
    side = isqrt(len(things))
    top, left = draws.between(0, COLUMNS - side), draws.between(0, COLUMNS - side)
    return [((top + i // side) * COLUMNS + left + i % side,) for i in range(len(things))]


@cache
def _series() -> list[list[float]]:
    return [row["values"] for row in json.loads(TABLES.read_text(encoding="utf-8"))["series"]]


def real_series(count: int, draws: Draws) -> list[int]:
    """`count` neighbours of a real series, scaled to whole numbers between two ends that are drawn.

    Neighbours are of a window of at least 3, so that one value alone is not always an end of its own scale.
    """
    series = draws.pick(_series())
    step = draws.between(1, max(1, min(3, (len(series) - 1) // max(count, 3))))
    span = step * (max(count, 3) - 1) + 1
    start = draws.below(len(series) - span + 1)
    window = series[start : start + span : step]
    low, high = min(window), max(window)
    bottom, top = draws.between(1, 4), draws.between(5, TOP)
    scale = (top - bottom) / (high - low) if high > low else 0.0
    first = draws.below(len(window) - count + 1)
    return [bottom + round((value - low) * scale) for value in window][first : first + count]


COUNTED = ("shapes", "emoji")
"""Shows whose number is how many things there are."""
CHARTS = ("bars", "line")
"""Shows whose values stand side by side in slots."""
