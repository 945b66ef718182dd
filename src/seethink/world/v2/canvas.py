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

WIDEST = CELL
"""Pixels of the widest mask."""

Mask = NDArray[np.float32]
"""[height, 3 * width] from 0 (clear) to 1 (covered), the same for the three channels of a pixel."""
Color = NDArray[np.float32]
"""[3 * width] or [height, 3 * width] from 0 to 255: the channels of a row of pixels."""
TINTS = 16
"""Variations of each colour."""


class Palette:
    """The colours of a picture. Example: `PALETTES["dusk"].color("red")`"""

    def __init__(self, ground: tuple[int, int], tone: tuple[int, int, int], ink: str, **colors: str) -> None:
        """`ground`: lowest and highest grey behind all, which `tone` is added to; `ink` and `colors` are RRGGBB."""
        rng = np.random.default_rng(3)
        self.ink = _row(_rgb(ink))
        self._grounds = [
            np.tile(_row(np.float32(grey) + np.array(tone, np.float32), SIZE), (SIZE, 1)) for grey in range(*ground)
        ]
        self._tints = {
            name: [_row(np.clip(_rgb(color) + rng.integers(-12, 13, size=3), 0, 255)) for _ in range(TINTS)]
            for name, color in colors.items()
        }

    def ground(self, draws: Draws) -> NDArray[np.float32]:
        """An empty picture."""
        return draws.pick(self._grounds).copy()

    def tint(self, name: str, draws: Draws) -> Color:
        """The named colour with a little random variation."""
        return draws.pick(self._tints[name])

    def color(self, name: str) -> Color:
        """One variation of the named colour."""
        return self._tints[name][0]


def _rgb(text: str) -> NDArray[np.float32]:
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


def _row(color: NDArray[np.float32], width: int = WIDEST) -> Color:
    return np.tile(color, width).astype(np.float32)


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


@cache
def noise_bank() -> NDArray[np.float32]:
    """[192, 3 * 192] of sensor noise, of which every picture has a window."""
    return np.random.default_rng(2).normal(0.0, NOISE, size=(192, 192 * 3)).astype(np.float32)


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
        blend = color[..., :width] - patch
        blend *= mask
        patch += blend

    def fill(self, x0: int, y0: int, x1: int, y1: int, color: Color) -> None:
        self.pixels[y0:y1, 3 * x0 : 3 * x1] = color[: 3 * (x1 - x0)]

    def finish(self) -> Image.Image:
        """The picture with its noise."""
        top, left = self.draws.below(192 - SIZE), 3 * self.draws.below(192 - SIZE)
        noisy = self.pixels
        noisy += noise_bank()[top : top + SIZE, left : left + 3 * SIZE]
        np.maximum(noisy, 0, out=noisy)
        np.minimum(noisy, 255, out=noisy)
        return Image.fromarray(noisy.astype(np.uint8).reshape(SIZE, SIZE, 3))
