"""What checkpoints, the lock and the checks of numbers add to the quickstart's stages, on the nano model.

    python benchmarks/checkpoint_cost.py

Trains a few steps of the shipped recipes with many checkpoints, reads their times from metrics.jsonl, and reckons the
share at the recipe's own `checkpoint.every`. Prints a Markdown table.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from seethink.config import load_recipe
from seethink.runs.lock import FolderLock
from seethink.runs.metrics import read_metrics
from seethink.studies.quickstart import recipes_folder
from seethink.train import grpo
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.start import train

RECIPES = {
    "nano-coldstart.toml": ["data.train_size=640", "data.val_size=20", "sft.epochs=1", "sft.val_every=1000"],
    "nano-grpo.toml": ["model=nano", "algorithm.steps=7", "data.train_size=200"],
}
EVERY = 3


def main() -> None:
    spent: dict[str, list[float]] = {"snapshot": [], "faults": []}
    Checkpoints.end_step = timed(Checkpoints.end_step, spent["snapshot"])  # type: ignore[method-assign]
    grpo.episode_faults = timed(grpo.episode_faults, spent["faults"])
    print("| recipe | step, median | save, median | size | saves every | saves take | per step besides |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in RECIPES.items():
            for times in spent.values():
                times.clear()
            shipped = load_recipe(recipes_folder() / name).checkpoint.every
            out = Path(folder) / name
            words = [f"checkpoint.every={EVERY}", "blindness.every=0", f"out={out}", *overrides]
            train(load_recipe(recipes_folder() / name, words))
            print(row(name, out, shipped, sum(statistics.median(t) for t in spent.values() if t)))
        print(f"\nThe lock, once a run: {lock_ms(Path(folder)):.2f} ms. {time.strftime('%Y-%m-%d')}, "
              f"{platform.machine()}, {torch.get_num_threads()} threads.")  # fmt: skip


def timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = function(*args, **kwargs)
        times.append(time.perf_counter() - started)
        return result

    return wrapped


def row(name: str, out: Path, every: int, besides: float) -> str:
    records = read_metrics(out)
    saves = [r["time/checkpoint_s"] for r in records if "time/checkpoint_s" in r]
    # A step's time has the save before it.
    steps = [r["time/step_s"] - r.get("time/checkpoint_s", 0.0) for r in records[1:]]
    step, save = statistics.median(steps), statistics.median(saves)
    last = sorted((out / "checkpoints").iterdir())[-1]
    size = sum(f.stat().st_size for f in last.rglob("*") if f.is_file()) / 1e6
    share, little = save / (save + every * step), besides / step
    return (
        f"| {name} | {step * 1e3:.0f} ms | {save * 1e3:.0f} ms | {size:.1f} MB | {every} steps | {share:.2%} | "
        f"{besides * 1e3:.2f} ms ({little:.3%}) |"
    )


def lock_ms(folder: Path) -> float:
    times = []
    for _ in range(50):
        started = time.perf_counter()
        with FolderLock(folder):
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
