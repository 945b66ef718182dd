"""Over the checkpoints of many runs: whether a criterion goes with accuracy, and what choosing by it costs.

Runs differ, and all of them change as they train: a criterion that follows the step, or tells one run from another,
would seem to follow accuracy. So what runs and steps have in common is taken out first (`within`). What is left is
small, and noise makes a correlation smaller than it is: it is divided by the root of both reliabilities (Spearman 1904,
The proof and measurement of association between two things), each found from two halves of the measurements, stepped up
to the whole by the formula of Spearman (1910) and Brown (1910).

Letter: N checkpoints of all runs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from seethink.core.statistics import Values

SMALLEST = 1e-9
"""Of what is left after runs and steps, against the values themselves: less is rounding."""


def within(values: Values, runs: Sequence[Hashable], steps: Sequence[Hashable]) -> np.ndarray:
    """[N] The values less what their run and their step add, by least squares."""
    found = np.asarray(values, dtype=float)
    columns = [[float(own == one) for own in labels] for labels in (runs, steps) for one in dict.fromkeys(labels)]
    design = np.array(columns).T
    left: np.ndarray = found - design @ np.linalg.lstsq(design, found, rcond=None)[0]
    return left


def controlled_correlation(x: Values, y: Values, runs: Sequence[Hashable], steps: Sequence[Hashable]) -> float:
    """Pearson's correlation of what is left within runs and steps; NaN where nothing is, or a value is not finite."""
    both = [np.asarray(values, dtype=float) for values in (x, y)]
    if not all(len(values) and np.isfinite(values).all() for values in both):
        return math.nan
    left = [within(values, runs, steps) for values in both]
    sizes = [float(np.linalg.norm(values)) for values in left]
    if any(s <= SMALLEST * np.linalg.norm(values) for s, values in zip(sizes, both, strict=True)):
        return math.nan
    return float(left[0] @ left[1]) / (sizes[0] * sizes[1])


def reliability(halves: Sequence[tuple[float, float]], runs: Sequence[Hashable], steps: Sequence[Hashable]) -> float:
    """Of [N] values, each of which is the mean of two halves: 2r / (1 + r) with their controlled correlation r.

    NaN where the halves do not agree at all (r is 0 or less).
    """
    first, second = zip(*halves, strict=True) if halves else ((), ())
    r = controlled_correlation(first, second, runs, steps)
    return 2 * r / (1 + r) if r > 0 else math.nan


def corrected(correlation: float, x: float, y: float) -> float:
    """The correlation that measurements without error would have, given the reliabilities of both; NaN without them.

    It can exceed 1 where the reliabilities were estimated too small.
    """
    return correlation / math.sqrt(x * y) if x > 0 and y > 0 else math.nan


def regret_of(chosen: str, accuracy: Mapping[str, float]) -> float:
    """Accuracy of a run's best checkpoint less that of the chosen one."""
    return max(accuracy.values()) - accuracy[chosen]


def random_regret(accuracy: Mapping[str, float]) -> float:
    """What choosing by lot costs on average."""
    return max(accuracy.values()) - float(np.mean(list(accuracy.values())))
