"""A picture of 112 x 112 pixels, put together from masks that are drawn once.

numpy blends the masks.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seethink.world.v2.draws import Draws
from seethink.world.v2.scene import COLUMNS

SIZE = 112
"""Pixels per side."""
CELL = SIZE // COLUMNS
"""Pixels per side of a cell: one image token of a model that folds 2 x 2 patches of 14 pixels."""
NOISE = 3.0
"""Standard deviation of the sensor noise, in grey levels."""
BANK = 192
"""Pixels per side of the noisy grounds, of which every picture has a window."""
TINTS = 16
"""Variations of each colour."""

Mask = NDArray[np.float32]
"""[height, 3 * width] from 0 (clear) to 1 (covered), the same for the three channels of a pixel."""
Color = NDArray[np.float32]
"""[CELL, 3 * CELL] or of a mask's shape, from 0 to 255: the channels of pixels, with their noise."""


class Palette:
    """The colours of a picture, with sensor noise. Example: `palette("dusk").color("red")`"""

    def __init__(self, ground: tuple[int, int], tone: tuple[int, int, int], ink: str, **colors: str) -> None:
        """`ground`: lowest and highest grey behind all, which `tone` is added to; `ink` and `colors` are RRGGBB."""
        rng = np.random.default_rng(3)

        def noisy(color: NDArray[np.float32], side: int) -> Color:
            tile = np.tile(color, (side, side))
            return np.clip(tile + rng.normal(0.0, NOISE, tile.shape), 0, 255).astype(np.float32)

        self._names = {name: _rgb(color) for name, color in colors.items()}
        self._inks = [noisy(_rgb(ink), CELL) for _ in range(TINTS)]
        self._grounds = [noisy(np.array(tone, np.float32) + g, BANK).astype(np.uint8) for g in range(*ground, 2)]
        self._tints = {
            name: [noisy(color + rng.integers(-12, 13, size=3), CELL) for _ in range(TINTS)]
            for name, color in self._names.items()
        }

    def ground(self, draws: Draws) -> NDArray[np.uint8]:
        """An empty picture, [SIZE, 3 * SIZE]."""
        top, left = draws.below(BANK - SIZE), 3 * draws.below(BANK - SIZE)
        return draws.pick(self._grounds)[top : top + SIZE, left : left + 3 * SIZE].copy()

    def tint(self, name: str, draws: Draws) -> Color:
        """The named colour with a little random variation."""
        return draws.pick(self._tints[name])

    def ink(self, draws: Draws) -> Color:
        """What is drawn on a coloured card."""
        return draws.pick(self._inks)

    def color(self, name: str) -> NDArray[np.float32]:
        """[3] The named colour itself."""
        return self._names[name]


def _rgb(text: str) -> NDArray[np.float32]:
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


@cache
def palette(name: str) -> Palette:
    """`day` is dark colours on white; `dusk`, for RL, light colours on a grey blue, with less contrast."""
    if name == "day":
        return Palette(
            (236, 256),
            (0, 0, 0),
            "fafafa",
            red="d62728",
            green="1e963c",
            blue="1f5ac8",
            orange="f58714",
            purple="8c3cb4",
            black="282828",
            pink="f582be",
            teal="14b4be",
            brown="825028",
        )
    return Palette(
        (84, 104),
        (-8, 0, 24),
        "30343e",
        red="ec5a54",
        green="78d878",
        blue="6c98f4",
        orange="f0b048",
        purple="b67cf0",
        black="101018",
        pink="f0bade",
        teal="62e6e0",
        brown="ac6428",
    )


class Canvas:
    """Pixels that masks are blended over, in the order of the calls.

    A row of pixels lies in one row of numbers, so that numpy's inner loops are long.
    """

    def __init__(self, name: str, draws: Draws) -> None:
        self.palette, self.draws = palette(name), draws
        self.pixels = self.palette.ground(draws)

    def tint(self, name: str) -> Color:
        return self.palette.tint(name, self.draws)

    def stamp(self, mask: Mask, x: int, y: int, color: Color) -> None:
        """Blend `color` where the mask covers, with the mask's top left corner at (x, y), inside the picture."""
        height, width = mask.shape
        patch = self.pixels[y : y + height, 3 * x : 3 * x + width]
        blend = color[:height, :width] - patch
        blend *= mask
        blend += patch
        patch[...] = blend

    def finish(self) -> Image.Image:
        return Image.frombuffer("RGB", (SIZE, SIZE), self.pixels, "raw", "RGB", 0, 1)
