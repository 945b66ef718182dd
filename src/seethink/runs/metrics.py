"""A step's record -> `metrics.jsonl` and its like, and TensorBoard. Keys are slash-grouped and stable.

None may stop a run: lines that cannot be written wait in memory for the next step, a TensorBoard that fails is left
out, and so is what is written under `expendable`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from seethink.core.console import say
from seethink.core.files import append_whole, finite_or_none, write_json_lines
from seethink.runs.reading import read_steps
from seethink.runs.tables import NAME as TABLE
from seethink.runs.tables import Row, markdown


def keep_steps(
    path: Path, step: int, wanted: Callable[[dict[str, Any]], bool] = lambda record: True
) -> list[dict[str, Any]]:
    """Take out of a file of steps what an interrupted run wrote after `step`, and what is not `wanted`; give the rest.

    A file of which nothing is left goes; so it does at step 0, where the run begins.
    """
    kept = [r for r in read_steps(path) if r["step"] <= step and wanted(r)] if step else []
    if kept:
        write_json_lines(path, kept)
    else:
        path.unlink(missing_ok=True)
    return kept


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add a line to a file that is looked at and never needed; one that the disk does not take whole is left out."""
    with expendable(path.name):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            append_whole(file, (json.dumps(record) + "\n").encode())
        finally:
            os.close(file)


class StepLines:
    """A file of JSON objects with a `step`, in its order. Opening at a step drops what an interrupted run wrote after
    it."""

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        keep_steps(path, resume_step)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._waiting = b""

    def write(self, record: dict[str, Any]) -> None:
        """Append a line; raises ValueError for NaN and infinity, which are not JSON."""
        self._waiting += (json.dumps(record, allow_nan=False) + "\n").encode()
        self._write_waiting()

    def _write_waiting(self) -> None:
        try:
            append_whole(self._file, self._waiting)
            self._waiting = b""
        except OSError as error:
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

    def write_table(self, step: int, rows: Sequence[Row]) -> None:
        """A table of rollouts for TensorBoard: a text, and the pictures of its rows beside it."""
        if self._board is None:
            return
        try:
            self._board.add_text(TABLE, markdown(rows), step)
            for number, row in enumerate(rows, 1):
                if row.picture is not None:
                    self._board.add_image(f"{TABLE}/{number}", np.asarray(row.picture), step, dataformats="HWC")
        except Exception as error:
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
    """The records of a run; damaged lines are named and left out."""
    return read_steps(folder / "metrics.jsonl")


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


def _silence_writer_threads() -> None:
    """TensorBoard writes in a thread. Where that fails, the next value says so, and no traceback comes besides."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    if getattr(before, "__qualname__", "") != hook.__qualname__:
        threading.excepthook = hook


def _board(folder: Path, resume_step: int) -> Any:
    """What an earlier start wrote after the step is purged, from the first on where it had no checkpoint."""
    place = folder / "tensorboard"
    _silence_writer_threads()
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(place), purge_step=resume_step + 1 if place.exists() else None)
    except Exception as error:
        _warn(f"no TensorBoard: {type(error).__name__}: {error}; metrics.jsonl has everything")
        return None
