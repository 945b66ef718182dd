"""The order in which samples are drawn: a function of the seed and of a counter alone.

A run that is resumed needs nothing but the number of samples that it has drawn; no generator has a state to store.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seethink.data.order import shuffled

STREAM = 0xD4A35
"""Keeps the random numbers of mixtures apart from those of `shuffled`."""
GOLDEN = (math.sqrt(5) - 1) / 2


class Draws:
    """An endless order of the places in several pools, each with its share of the draws.

    An epoch has as many draws as there are places. Each pool gets its share of them, rounded up or down so that the
    shares hold over the epochs, at random times. A pool is walked in passes: each takes every place once in an order
    of its own, and the next one begins where the places have run out, in the midst of an epoch or not. A single pool
    has one pass per epoch.

    Example: `Draws([[0, 1, 2], [3]], [0.5, 0.5], seed=0)` draws 3 twice per epoch, and two of 0, 1, 2.
    """

    def __init__(self, pools: Sequence[Sequence[int]], shares: Sequence[float], seed: int) -> None:
        """`shares` are positive and need not sum to one; their order and that of the pools count."""
        self._pools = [np.asarray(pool, dtype=np.int64) for pool in pools]
        self._edges = np.cumsum(np.asarray(shares, dtype=np.float64))
        self._edges /= self._edges[-1]
        self._seed = seed
        self._kept: tuple[int, list[int]] | None = None
        self.length = sum(map(len, self._pools))
        """Draws per epoch."""

    def epoch(self, number: int) -> list[int]:
        """The places of an epoch in their order."""
        if self._kept is None or self._kept[0] != number:
            self._kept = (number, self._mixed(number) if len(self._pools) > 1 else self._single(number))
        return self._kept[1]

    def take(self, start: int, count: int) -> list[int]:
        """`count` places from position `start` of the whole order."""
        taken: list[int] = []
        epoch, offset = divmod(start, self.length)
        while len(taken) < count:
            taken += self.epoch(epoch)[offset : offset + count - len(taken)]
            epoch, offset = epoch + 1, 0
        return taken

    def _single(self, number: int) -> list[int]:
        (pool,) = self._pools
        return [int(place) for place in pool[shuffled(self.length, self._seed, number)]]

    def _mixed(self, number: int) -> list[int]:
        counts = self._counts(number + 1)
        own, before = counts[-1], counts[:-1].sum(axis=0)
        order = np.random.default_rng([self._seed, STREAM, number]).permutation(self.length)
        owners = np.searchsorted(np.cumsum(own), order, side="right")
        drawn = np.empty(self.length, dtype=np.int64)
        for which in range(len(self._pools)):
            drawn[owners == which] = self._walk(which, int(before[which]), int(own[which]))
        return [int(place) for place in drawn]

    def _counts(self, epochs: int) -> np.ndarray:
        """[epochs, pools] draws of each pool in each of the first epochs.

        Systematic sampling: of the points (i + offset) / length, those between its two edges are a pool's. The offset
        of an epoch is a multiple of the golden section modulo 1, so that over the epochs the counts follow the shares.
        """
        offsets = (0.5 + GOLDEN * np.arange(epochs))[:, None] % 1
        ends = np.ceil(self.length * self._edges[None, :] - offsets).clip(0, self.length).astype(np.int64)
        ends[:, -1] = self.length
        return np.diff(ends, axis=1, prepend=0)

    def _walk(self, which: int, start: int, count: int) -> np.ndarray:
        """`count` places of a pool from position `start` of its passes."""
        pool = self._pools[which]
        first, last = start // len(pool), (start + count) // len(pool)
        passes = [
            pool[np.random.default_rng([self._seed, STREAM, which, number, 1]).permutation(len(pool))]
            for number in range(first, last + 1)
        ]
        return np.concatenate(passes)[start - first * len(pool) :][:count]
