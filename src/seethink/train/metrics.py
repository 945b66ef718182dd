"""A step's record -> `metrics.jsonl` and TensorBoard. Keys are slash-grouped and stable."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class MetricsWriter:
    """Appends one JSON object a step. Opening at a step drops what an interrupted run wrote after it."""

    def __init__(self, folder: Path, *, tensorboard: bool, resume_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        kept = [r for r in read_metrics(folder) if r["step"] <= resume_step] if resume_step else []
        self._path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _board(folder, resume_step) if tensorboard else None

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """NaN and infinity become null: they are not JSON."""
        record = {"step": step} | {k: _finite(v) for k, v in sorted(metrics.items())}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in metrics.items():
                self._board.add_scalar(key, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a half-written last line is left out."""
    path = folder / "metrics.jsonl"
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _finite(value: float) -> float | None:
    return float(f"{value:.10g}") if math.isfinite(value) else None


def _board(folder: Path, resume_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1 if resume_step else None)
