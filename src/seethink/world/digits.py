"""Real handwritten digits (scikit-learn's copy of the UCI set), in three disjoint pools.

The file keeps the order of collection, so contiguous pools also keep most writers apart.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_BOUNDS: dict[Split, tuple[int, int]] = {"train": (0, 1200), "val": (1200, 1400), "test": (1400, 1797)}


@cache
def _pool(split: Split) -> tuple[tuple[NDArray[np.float32], ...], ...]:
    """Ink of every digit of a split: pool[value][i] is [8, 8] in 0..1."""
    data = load_digits()
    first, last = _BOUNDS[split]
    ink = (data.images[first:last] / 16.0).astype(np.float32)
    labels = data.target[first:last]
    return tuple(tuple(ink[labels == value]) for value in range(10))


def digit_ink(split: Split, value: int, rng: np.random.Generator) -> tuple[int, NDArray[np.float32]]:
    """A handwritten `value` from the split: (its index in the pool, ink [8, 8] in 0..1)."""
    pool = _pool(split)[value]
    index = int(rng.integers(len(pool)))
    return index, pool[index]
