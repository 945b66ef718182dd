"""Curves of the lab's page that are read from what measurements wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seethink.runs.reading import read_object
from seethink.studies.lab.reading import REFLECTION

Curve = list[tuple[float, float]]
"""(step, mean over the seeds)."""


def reflection_curves(folders: Sequence[Path]) -> dict[str, Curve]:
    """P(Wait | wrong) and P(Wait | right) by step, of an arm's folders for all seeds; {} where none was measured.

    A step is left out where a seed has no such attempt there.
    """
    tables = [read_object(folder / REFLECTION) for folder in folders]
    curves: dict[str, Curve] = {}
    for name, key in (("after a wrong attempt", "after_wrong"), ("after a right attempt", "after_right")):
        by_step: dict[float, list[float]] = {}
        for one in (one for table in tables if table for one in table["checkpoints"]):
            by_step.setdefault(one["step"], []).append(math.nan if one[key] is None else one[key])
        means = [(step, float(np.mean(values))) for step, values in sorted(by_step.items())]
        if points := [(step, mean) for step, mean in means if math.isfinite(mean)]:
            curves[name] = points
    return curves
