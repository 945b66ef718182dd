"""A histogram of entropies with fixed edges, so that histograms of any steps, runs and machines add up.

Letter: B bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

WIDTH = 1 / 32
"""Nats: the width of the widest bins."""
MOST = 16.0
"""Nats: the entropy of nine million equally likely tokens. The last bin holds everything from here on."""
EDGES = np.concatenate([[0.0], 2.0 ** np.arange(-10, -3, 0.25), np.arange(1 / 8, MOST + WIDTH, WIDTH), [np.inf]])
"""[B + 1] Nats. One bin up to 1/1024, then bins that grow by 2^(1/4) up to 1/8, then bins of width 1/32."""


@dataclass(slots=True, eq=False)
class Sketch:
    """Count, sum, extremes and histogram of some values. `a + b` is the sketch of all their values.

    A quantile is off by less than the width of its bin: 1/32 nat; below 1/8 nat, a fifth of the quantile; below
    1/1024 nat, 0.001. Values from `MOST` on share a bin.

    Example: `Sketch.of([0.5, 1.5]).mean == 1.0`
    """

    counts: np.ndarray
    """[B] integers."""
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: Any) -> Self:
        """The sketch of numbers >= 0; NaN and infinity are left out."""
        numbers = np.asarray(values, dtype=np.float64)
        return cls.of_bins(numbers, bins_of(numbers))

    @classmethod
    def of_bins(cls, numbers: np.ndarray, bins: np.ndarray) -> Self:
        """The same for [N] numbers whose [N] bins are known already."""
        if not (finite := np.isfinite(numbers)).all():
            numbers, bins = numbers[finite], bins[finite]
        counts = np.bincount(bins, minlength=len(EDGES) - 1)
        if not numbers.size:
            return cls(counts)
        return cls(counts, float(numbers.sum()), float(numbers.min()), float(numbers.max()))

    def __add__(self, other: Sketch) -> Sketch:
        return Sketch(
            self.counts + other.counts,
            self.total + other.total,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """NaN without values."""
        return self.total / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """The smallest value that `share` of the values do not exceed, 0 < share <= 1; NaN without values."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(share * self.count))
        reached = self.counts.cumsum()
        at = int(np.searchsorted(reached, rank))
        start, end = max(EDGES[at], self.low), min(EDGES[at + 1], self.high)
        inside = (rank - (reached[at] - self.counts[at])) / self.counts[at]
        return float(start + (end - start) * inside)

    def as_json(self) -> dict[str, Any]:
        """The bins that are not empty, the sum and the extremes; floats keep every bit."""
        filled = np.flatnonzero(self.counts)
        return {
            "bins": filled.tolist(),
            "counts": self.counts[filled].tolist(),
            "sum": self.total,
            "min": self.low if len(filled) else None,
            "max": self.high if len(filled) else None,
        }

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Self:
        """The sketch that `as_json` wrote. Raises ValueError for any other table."""
        try:
            bins, counts = (np.asarray(table[key], dtype=np.int64) for key in ("bins", "counts"))
            if bins.shape != counts.shape or np.any((bins < 0) | (bins >= len(EDGES) - 1) | (counts < 0)):
                raise ValueError("bins and counts do not fit each other")
            whole = np.zeros(len(EDGES) - 1, dtype=np.int64)
            whole[bins] = counts
            if not len(bins):
                return cls(whole)
            return cls(whole, *(float(table[key]) for key in ("sum", "min", "max")))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a histogram of entropies: {error}") from None


def bins_of(numbers: np.ndarray) -> np.ndarray:
    """[N] The bin of each value; values that rounding put below 0 are in the first."""
    return np.clip(np.searchsorted(EDGES, numbers, side="right") - 1, 0, len(EDGES) - 2)
