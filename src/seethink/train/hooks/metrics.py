"""A step's metrics on disk: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path

from seethink.runs.metrics import MetricsWriter
from seethink.train.hook import Hook
from seethink.train.step import StepResult


class MetricsLog(Hook):
    """Stands last: it writes what the hooks before it have measured, and the seconds since the step before."""

    def __init__(self, folder: Path, *, tensorboard: bool, step: int) -> None:
        self._writer = MetricsWriter(folder, tensorboard=tensorboard, resume_step=step)
        self._since = time.perf_counter()

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        now = time.perf_counter()
        seconds = {"time/step_s": now - self._since}
        self._since = now
        self._writer.write(step, result.metrics | seconds)
        return seconds

    def sync(self) -> None:
        self._writer.sync()

    def close(self) -> None:
        self._writer.close()
