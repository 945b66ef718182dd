"""A step's metrics: metrics.jsonl, TensorBoard and trackers."""

from __future__ import annotations

import time
from pathlib import Path

from seethink.config import Recipe
from seethink.runs.metrics import MetricsWriter
from seethink.runs.trackers import Trackers
from seethink.train.hook import Hook
from seethink.train.step import StepResult


class MetricsLog(Hook):
    """Stands last: it writes what the hooks before it have measured, and the seconds since the step before."""

    def __init__(self, folder: Path, recipe: Recipe, *, step: int) -> None:
        self._writer = MetricsWriter(folder, tensorboard=recipe.log.tensorboard, resume_step=step)
        self._trackers = Trackers(recipe.log.trackers, folder, recipe.as_table())
        self._since = time.perf_counter()

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        now = time.perf_counter()
        seconds = {"time/step_s": now - self._since}
        self._since = now
        self._writer.write(step, result.metrics | seconds)
        self._trackers.write(step, result.metrics | seconds)
        return seconds

    def sync(self) -> None:
        self._writer.sync()

    def close(self) -> None:
        self._writer.close()
        self._trackers.close()
