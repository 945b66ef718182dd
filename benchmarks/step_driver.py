"""Starts the two sides of benchmarks/step.py as child processes and asks them for checks and steps, in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from step_work import Cell

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4
"""Largest relative difference of the gradients, |a - b| / |b|, with which a cell is timed."""


class DisagreeError(RuntimeError):
    """The two sides do not compute the same gradient, so their times mean nothing."""


@dataclass(frozen=True)
class Settings:
    threads: int
    repeats: int
    warmups: int = 1
    overrides: tuple[str, ...] = ()
    """Recipe keys of seethink's side, `key=value`."""
    python: str = sys.executable
    trl_python: str = str(HERE.parent / ".venv-trl" / "bin" / "python")
    max_micro_tokens: int = 16384
    """Largest micro-batch that TRL is tried with."""
    micro_rows: int | None = None
    """TRL's rows a micro-batch; None: the fastest of some."""
    cache: str | None = None
    matmul: str | None = None

    @property
    def steps(self) -> int:
        return self.repeats + self.warmups


class Child:
    """One side in a process of its own."""

    def __init__(self, script: str, python: str, settings: Settings, **load: Any) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")]),
            "OMP_NUM_THREADS": str(settings.threads),
            # seethink's own defaults, for both: the side that waits must not spin for long.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "1000",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.log = tempfile.NamedTemporaryFile("w+", suffix=f"-{script}.log", delete=False)  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            text=True,
        )
        self.about = self.ask("load", threads=settings.threads, steps=settings.steps, **load)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        try:
            self.process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            tail = Path(self.log.name).read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"the process died (status {self.process.wait()}); its last words:\n{tail}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.log.close()
        Path(self.log.name).unlink()


@dataclass
class Track:
    """The measured steps of both sides on one track."""

    seconds: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    """Load average of the machine at each round."""


def start_ours(cell: Cell, folder: Path, settings: Settings) -> Child:
    load = {"cell": cell.as_json(), "folder": str(folder), "overrides": list(settings.overrides)}
    return Child("step_ours.py", settings.python, settings, **load)


def start_trl(cell: Cell, folder: Path, settings: Settings) -> tuple[Child, dict[str, Any]]:
    """TRL with its fastest micro-batch for this cell, and what was tried (seconds of forward and backward)."""
    load = {"cell": cell.as_json(), "folder": str(folder), "cache": settings.cache, "matmul": settings.matmul}
    candidates = micro_candidates(cell, settings)
    first = candidates[0]
    child = Child("step_trl.py", settings.trl_python, settings, micro_rows=first, **load)
    if len(candidates) == 1:
        return child, {"micro_rows": first, "tried": {}}
    tried = child.ask("tune", candidates=candidates)
    best = int(min(tried, key=lambda rows: tried[rows]))
    # A fresh process, so that the memory of what was tried does not count.
    child.close()
    child = Child("step_trl.py", settings.trl_python, settings, micro_rows=best, **load)
    return child, {"micro_rows": best, "tried": tried}


def micro_candidates(cell: Cell, settings: Settings) -> list[int]:
    """Rows a micro-batch: the whole step, and halves of it down to an eighth, as far as memory allows."""
    if settings.micro_rows:
        return [min(settings.micro_rows, cell.rows)]
    sizes = [cell.rows // parts for parts in (1, 2, 4, 8, 16) if cell.rows % parts == 0 and cell.rows // parts > 1]
    fits = [rows for rows in sizes if rows * (cell.prompt + cell.response) <= settings.max_micro_tokens]
    return fits[:4] or sizes[-1:]


def compare(ours: Child, peer: Child) -> dict[str, float]:
    """Loss and gradient of one ragged replay on both sides. Raises DisagreeError."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("ours.npy", "trl.npy")]
        mine, theirs = (child.ask("check", path=path) for child, path in zip((ours, peer), paths, strict=True))
        a, b = (np.load(path).astype(np.float64) for path in paths)
    error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    found = {
        "loss_ours": mine["loss"],
        "loss_trl": theirs["loss"],
        "gradient_error": error,
        "gradient_norm": float(np.linalg.norm(b)),
        "cosine": float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))),
        "values": len(a),
    }
    loss_error = abs(mine["loss"] - theirs["loss"])
    if not error < TOLERANCE or not loss_error < TOLERANCE:
        raise DisagreeError(f"the sides differ: {found}")
    return found


def time_track(name: str, children: dict[str, Child], settings: Settings) -> Track:
    """Warm-ups, then both sides in turn, the first of a round alternating."""
    track = Track({side: [] for side in children})
    for child in children.values():
        child.ask("reset")
    for number in range(settings.steps):
        order = list(children) if number % 2 == 0 else list(children)[::-1]
        for side in order:
            seconds = children[side].ask(name)
            if number >= settings.warmups:
                track.seconds[side].append(seconds)
        track.load.append(os.getloadavg()[0])
    for side, child in children.items():
        track.peak_mb[side] = child.ask("memory")["peak"]
    return track


def measure(
    cell: Cell, folder: Path, settings: Settings, tracks: Sequence[str], *, peer: bool = True
) -> dict[str, Any]:
    """Everything about one cell, as JSON. Without `peer` only seethink's side runs, and nothing is compared."""
    ours = start_ours(cell, folder, settings)
    children = {"ours": ours}
    result: dict[str, Any] = {"cell": cell.as_json(), "tokens": cell.tokens, "about": {"ours": ours.about}}
    try:
        if peer:
            children["trl"], result["trl"] = start_trl(cell, folder, settings)
            result["about"]["trl"] = children["trl"].about
            lengths = {side: child.about["prompt_tokens"] for side, child in children.items()}
            assert set(lengths.values()) == {cell.prompt}, lengths
            result["check"] = compare(ours, children["trl"])
        result["limits"] = ours.ask("limits")
        result["tracks"] = {}
        for name in tracks:
            track = time_track(name, children, settings)
            result["tracks"][name] = {"seconds": track.seconds, "peak_mb": track.peak_mb, "load": track.load}
    finally:
        for child in children.values():
            if child.process.poll() is None:
                child.close()
    return result
