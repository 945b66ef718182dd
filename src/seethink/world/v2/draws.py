"""Random choices that are the same on every machine and Python: all of them come from `Random.random()`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import TypeVar

T = TypeVar("T")


@cache
def _subsets(of: int, count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(combinations(range(of), count))


class Draws:
    """A stream of choices that a key fixes.

    >>> Draws("search", 3).below(10) == Draws("search", 3).below(10)
    True
    """

    def __init__(self, *key: object) -> None:
        self._uniform = random.Random("/".join(map(str, key))).random

    def below(self, count: int) -> int:
        """0 to count - 1."""
        return int(self._uniform() * count)

    def between(self, low: int, high: int) -> int:
        """`low` to `high`, both included."""
        return low + int(self._uniform() * (high - low + 1))

    def chance(self, share: float) -> bool:
        return self._uniform() < share

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._uniform() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones in random order."""
        left, uniform = list(options), self._uniform
        size = len(left)
        for i in range(count):
            j = i + int(uniform() * (size - i))
            left[i], left[j] = left[j], left[i]
        del left[count:]
        return left

    def places(self, of: int, count: int) -> tuple[int, ...]:
        """`count` of the places 0 to `of` - 1, in order; one draw."""
        return self.pick(_subsets(of, count))

    def shuffled(self, options: Sequence[T]) -> list[T]:
        return self.some(options, len(options))
