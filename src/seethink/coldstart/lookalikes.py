"""Pictures that look alike: copies of one picture in another size, format or quality.

Letters: N pictures, C = 768 values of a look (16 x 16 cells of red, green and blue).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL.Image import Image, Resampling
from scipy.spatial import cKDTree

SIDE = 16
MOST_APART = 12
"""Levels of 255 by which a cell's mean colour may differ. Resizing and JPEG at quality 60 move it by 3 or less."""
FLATTEST = 24
"""Levels between the darkest and the brightest cell; a flatter picture shows too little to be told from others."""
_KEYS = 16
"""Cells that pairs are searched by: those that differ most between the pictures."""
_AT_ONCE = 256


def look(image: Image) -> np.ndarray:
    """[C] mean colours of a picture's 16 x 16 cells, whatever its size."""
    small = image.convert("RGB").resize((SIDE, SIDE), Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).reshape(-1)


def alike(looks: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (n, m) of a look [N, C] and another [M, C] that are alike, by n and then m. Flat pictures are like none."""
    first, second = _rough(looks), _rough(others)
    if not len(first) or not len(second):
        return
    looks, others = looks[first].astype(np.int16), others[second].astype(np.int16)
    # Pictures whose cells are all near have these near too, so that no pair is missed.
    cells = np.sort(np.argsort(-others.var(axis=0), kind="stable")[:_KEYS])
    tree = cKDTree(others[:, cells])
    for start in range(0, len(first), _AT_ONCE):
        some = looks[start : start + _AT_ONCE]
        for row, near in enumerate(tree.query_ball_point(some[:, cells], MOST_APART, p=np.inf, return_sorted=True)):
            apart = np.abs(others[near] - some[row]).max(axis=1, initial=0)
            for place in np.flatnonzero(apart <= MOST_APART):
                yield int(first[start + row]), int(second[near[place]])


def _rough(looks: np.ndarray) -> np.ndarray:
    """The places of the pictures that are not flat."""
    return np.flatnonzero(np.ptp(looks, axis=1) >= FLATTEST)


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
