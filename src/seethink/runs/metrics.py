"""A step's record -> `metrics.jsonl` and its like, and TensorBoard. Keys are slash-grouped and stable.

None may stop a run: lines that cannot be written wait in memory for the next step, a TensorBoard that fails is left
out, and so is what is written under `expendable`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from seethink.core.console import say
from seethink.core.files import finite_or_none, read_json_lines, write_json_lines


class StepLines:
    """A file of JSON objects with a `step`, in its order. Opening at a step drops what an interrupted run wrote after
    it."""

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        kept = [r for r in read_json_lines(path) if r["step"] <= resume_step] if resume_step else []
        write_json_lines(path, kept)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._waiting = b""

    def write(self, record: dict[str, Any]) -> None:
        """Append a line; raises ValueError for NaN and infinity, which are not JSON."""
        self._waiting += (json.dumps(record, allow_nan=False) + "\n").encode()
        self._write_waiting()

    def _write_waiting(self) -> None:
        """All lines or none: what a full disk took of them is taken back, so that none is torn or double."""
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, self._waiting)
            if written < len(self._waiting):
                raise OSError(28, "No space left on device")
            self._waiting = b""
        except OSError as error:
            os.ftruncate(self._file, before)
            lines = self._waiting.count(b"\n")
            _warn(f"{self._path} cannot be written ({error}): {lines} lines wait in memory, training goes on")

    def sync(self) -> None:
        """Records are on the disk before the checkpoint that follows them is."""
        if self._waiting:
            self._write_waiting()
        os.fsync(self._file)

    def close(self) -> None:
        if self._waiting:
            self._write_waiting()
        os.close(self._file)


class MetricsWriter:
    """The metrics of every step, in `metrics.jsonl` and for TensorBoard."""

    def __init__(self, folder: Path, *, tensorboard: bool, resume_step: int = 0) -> None:
        self._lines = StepLines(folder / "metrics.jsonl", resume_step)
        self._board = _board(folder, resume_step) if tensorboard else None

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """NaN and infinity become null."""
        self._lines.write({"step": step} | {k: _short(v) for k, v in sorted(metrics.items())})
        if self._board is None:
            return
        board = self._board
        try:
            for key, value in metrics.items():
                board.add_scalar(key, value, step)
        except Exception as error:  # a tracker is never worth a run
            self._drop_board(error)

    def sync(self) -> None:
        self._lines.sync()

    def _drop_board(self, error: Exception) -> None:
        self._board = None
        _warn(f"TensorBoard is left out from here on: {type(error).__name__}: {error}; metrics.jsonl has everything")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        if self._board is not None:
            try:
                self._board.close()
            except Exception as problem:
                self._drop_board(problem)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a half-written last line is left out."""
    return read_json_lines(folder / "metrics.jsonl")


def _short(value: float) -> float | None:
    """Ten digits, so that a line stays readable; null for NaN and infinity."""
    return finite_or_none(float(f"{value:.10g}"))


@contextmanager
def expendable(what: str) -> Iterator[None]:
    """Around writing a file that is looked at and never read by training: where it fails, the run goes on without."""
    try:
        yield
    except OSError as error:
        _warn(f"{what} cannot be written ({error}): left out, training goes on")


def _warn(line: str) -> None:
    say(line, "yellow")


def _board(folder: Path, resume_step: int) -> Any:
    """What an earlier start wrote after the step is purged, from the first on where it had no checkpoint."""
    place = folder / "tensorboard"
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(place), purge_step=resume_step + 1 if place.exists() else None)
    except Exception as error:
        _warn(f"no TensorBoard: {type(error).__name__}: {error}; metrics.jsonl has everything")
        return None
