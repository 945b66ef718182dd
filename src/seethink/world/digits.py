"""Real handwritten digits in three disjoint pools: the test set of Alpaydin and Kaynak's "Optical Recognition of
Handwritten Digits" (UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0).

`assets/digits.png` shows them row by row in the order of collection, ink of 0 to 16 as grays of 0 to 240; its text
field "Digits" names the digit of each tile. The pools are contiguous, which keeps most writers apart.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHEET = Path(__file__).with_name("assets") / "digits.png"
_BOUNDS: dict[Split, tuple[int, int]] = {"train": (0, 1200), "val": (1200, 1400), "test": (1400, 1797)}


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All 1,797 digits: (ink [N, 8, 8] from 0 to 16, the value of each [N])."""
    with Image.open(SHEET) as sheet:
        pixels, labels = np.asarray(sheet), sheet.info["Digits"]
    tiles = pixels.reshape(pixels.shape[0] // 8, 8, -1, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    return tiles[: len(labels)] // 15, np.array(list(labels), dtype=np.uint8)


@cache
def _pool(split: Split) -> tuple[tuple[NDArray[np.float32], ...], ...]:
    """The ink of every digit of a split: pool[value][i] is [8, 8] from 0 to 1."""
    ink, labels = (t[slice(*_BOUNDS[split])] for t in load_digits())
    return tuple(tuple((ink[labels == value] / 16.0).astype(np.float32)) for value in range(10))


def digit_ink(split: Split, value: int, rng: np.random.Generator) -> tuple[int, NDArray[np.float32]]:
    """A handwritten `value` from the split: (its index in the pool, its ink [8, 8] from 0 to 1)."""
    pool = _pool(split)[value]
    index = int(rng.integers(len(pool)))
    return index, pool[index]
