"""Pictures that look alike: copies of one picture in another size, format or quality.

Letters: N and M pictures, C = 576 cells of a look (24 x 24 greys).
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
from PIL import ImageOps
from PIL.Image import Image, Resampling
from scipy.spatial import cKDTree

SIDE = 24
LEAST = 0.95
"""Correlation of two looks. JPEG copies of half the size reach 0.96 to 0.99; line charts that share their axes, drawn
triangles and digit grids stay below 0.88 with one another (300 of each)."""
FLATTEST = 3.0
"""Standard deviation, in levels of 255, below which a picture shows too little to be told from others."""
_DIRECTIONS = 12
"""Principal components that pairs are searched along."""
_AT_ONCE = 256


def look(image: Image) -> np.ndarray:
    """[C] mean greys of a picture's 24 x 24 cells, whatever its size."""
    small = image.convert("L").resize((SIDE, SIDE), Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).reshape(-1)


def look_of_jpeg(content: bytes) -> np.ndarray:
    """[C] the look of a JPEG that was checked before, decoded at a fraction of its size: in less than half the time."""
    with PIL.Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
        picture.draft("L", (6 * SIDE, 6 * SIDE))
        return look(ImageOps.exif_transpose(picture))


def stacked(looks: list[np.ndarray]) -> np.ndarray:
    """[N, C] of N looks, none included."""
    return np.stack(looks) if looks else np.empty((0, SIDE * SIDE), dtype=np.uint8)


def alike(looks: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (n, m) of a look [N, C] and another [M, C] that are alike, by n and then m. Flat pictures are like none."""
    first, second = _rough(looks), _rough(others)
    if not len(first) or not len(second):
        return
    ones, twos = _unit(looks[first]), _unit(others[second])
    # A projection brings unit vectors nearer and never apart, so that no pair is missed.
    directions = _principal(twos)
    tree, apart = cKDTree(twos @ directions), np.sqrt(2 - 2 * LEAST) + 1e-4
    for start in range(0, len(first), _AT_ONCE):
        some = ones[start : start + _AT_ONCE]
        for row, near in enumerate(tree.query_ball_point(some @ directions, apart, return_sorted=True)):
            for place in np.flatnonzero(twos[near] @ some[row] >= LEAST) if near else ():
                yield int(first[start + row]), int(second[near[place]])


def _rough(looks: np.ndarray) -> np.ndarray:
    """The places of the pictures that are not flat."""
    return np.flatnonzero(looks.std(axis=1) >= FLATTEST)


def _unit(looks: np.ndarray) -> np.ndarray:
    """[N, C] of mean 0 and length 1: their products are correlations."""
    centred = looks.astype(np.float32) - looks.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


def _principal(units: np.ndarray) -> np.ndarray:
    """[C, 12] orthonormal directions in which the looks differ most."""
    centred = units - units.mean(axis=0)
    return np.linalg.eigh(centred.T @ centred)[1][:, -_DIRECTIONS:]


class Groups:
    """Items that were joined, directly or through others (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.first(one), self.first(other)))
        self._above[high] = low

    def first(self, item: int) -> int:
        """The first item of the group."""
        while self._above[item] != item:
            self._above[item] = item = self._above[self._above[item]]
        return item
