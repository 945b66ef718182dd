"""A wall of pictures of which one is asked about: `world:zoom`, a task that needs a closer look (docs/tools.md).

The wall has four rows and four columns of the first world's pictures of digits. A model that sees it at the size of one
picture has six pixels for a digit; the part that the question names, enlarged, is one of the pictures it knows.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from seethink.core.types import Sample
from seethink.world.digits import SPLITS, Split
from seethink.world.draw import SIZE
from seethink.world.questions import make_item
from seethink.world.scenes import draw_scene, make_scene
from seethink.world.trace import teacher_trace

DOMAIN = "zoom"
SIDE = 4
"""Rows and columns."""
DIFFICULTY = "easy"
"""Of all questions: what is hard is to see."""
OTHERS = 5
"""Pictures that are not asked about."""
STREAM = 0x2003
"""Sets the random numbers apart from those of the domains, which have their numbers there."""
LEAP_STREAM = 0x2004
"""Decides which traces leap, apart from what the items draw."""
CALL = '<tool_call>{{"name": "zoom", "arguments": {{"box": {}}}}}</tool_call>'


def wall_sample(index: int, split: Split, seed: int, *, trace: bool, leaps: float = 0.0) -> Sample:
    """Item `index`, a function of (seed, split, index); with `trace` the response looks first and answers then.

    `leaps` is the share of the traces that answer without looking: they are the others less their call.
    """
    place = [seed, SPLITS.index(split)]
    call = np.random.default_rng([*place, LEAP_STREAM, index]).random() >= leaps
    rng = np.random.default_rng([*place, STREAM, index])
    item = make_item("math", DIFFICULTY, split, rng)
    cells = [int(cell) for cell in rng.permutation(SIDE * SIDE)[: 1 + OTHERS]]
    wall = Image.new("RGB", (SIDE * SIZE, SIDE * SIZE), (245, 245, 245))
    for cell, picture in zip(cells, [item.image, *(_other(split, rng) for _ in range(OTHERS))], strict=True):
        wall.paste(picture, (SIZE * (cell % SIDE), SIZE * (cell // SIDE)))
    row, column = divmod(cells[0], SIDE)
    return Sample(
        id=f"{DOMAIN}-{split}-{seed}-{index}",
        question=f"Row {row + 1}, column {column + 1}: {item.question.text}",
        images=(wall,),
        answer=item.answer,
        choices=item.choices,
        domain=DOMAIN,
        difficulty=DIFFICULTY,
        response=CALL.format(box_of(row, column)) * call + teacher_trace(item, rng) if trace else None,
        meta={"task": item.task},
    )


def box_of(row: int, column: int) -> list[int]:
    """Left, top, right and bottom of a cell, in thousandths of the wall."""
    step = 1000 // SIDE
    return [column * step, row * step, (column + 1) * step, (row + 1) * step]


def _other(split: Split, rng: np.random.Generator) -> Image.Image:
    while True:
        picture = draw_scene(make_scene("math", int(rng.integers(2, 5)), rng), split, rng)
        if picture is not None:
            return picture
