"""A step's metrics, and tables of its stored rollouts: metrics.jsonl, TensorBoard and trackers."""

from __future__ import annotations

import time
from pathlib import Path

from seethink.config import Recipe
from seethink.core.console import say
from seethink.runs.metrics import MetricsWriter
from seethink.runs.reading import RunFileError
from seethink.runs.rollouts import rollouts_file
from seethink.runs.tables import read_table
from seethink.runs.trackers import Trackers
from seethink.train.hook import Hook
from seethink.train.step import StepResult


class MetricsLog(Hook):
    """Stands last: it writes what the hooks before it have measured, and the seconds since the step before."""

    def __init__(self, folder: Path, recipe: Recipe, *, step: int) -> None:
        self._writer = MetricsWriter(folder, tensorboard=recipe.log.tensorboard, resume_step=step)
        self._trackers = Trackers(recipe.log.trackers, folder, recipe.as_table())
        self._folder = folder
        self._tables = recipe.log.rollout_tables and bool(recipe.log.tensorboard or recipe.log.trackers)
        self._since = time.perf_counter()

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        now = time.perf_counter()
        seconds = {"time/step_s": now - self._since}
        self._since = now
        self._writer.write(step, result.metrics | seconds)
        self._trackers.write(step, result.metrics | seconds)
        if self._tables and (stored := rollouts_file(self._folder, step)).is_file():
            self._table(step, stored)
        return seconds

    def _table(self, step: int, stored: Path) -> None:
        try:
            rows = read_table(stored, self._folder)
        except (OSError, RunFileError) as error:
            say(f"no table of the rollouts of step {step} ({error}): left out, training goes on", "yellow")
            return
        self._writer.write_table(step, rows)
        self._trackers.write_table(step, rows)

    def sync(self) -> None:
        self._writer.sync()

    def close(self) -> None:
        self._writer.close()
        self._trackers.close()
