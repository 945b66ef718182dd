"""What checkpoints, the lock and the checks of numbers add to the quickstart's stages, on the nano model.

    python benchmarks/checkpoint_cost.py             # the shipped recipes
    python benchmarks/checkpoint_cost.py --waits 3   # checkpoint.asynchronous against waiting, so many runs of each

Trains a few steps of the shipped recipes with many checkpoints, reads their times from metrics.jsonl, and reckons the
share at the recipe's own `checkpoint.every`. `--waits` trains the cold start with the nano model and with one of 30M
random weights in its place, alternating. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from step_models import make_cell, model_folder

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
WAITS = {"nano": ("sft.batch_size=8", "data.train_size=208"), "mid": ("sft.batch_size=2", "data.train_size=52")}
"""26 steps each, with a checkpoint every 4."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, default=0, metavar="RUNS")
    runs = parser.parse_args().waits
    with tempfile.TemporaryDirectory() as folder:
        waits(Path(folder), runs) if runs else shares()
    print(f"\n{time.strftime('%Y-%m-%d')}, {platform.machine()}, {torch.get_num_threads()} threads.")


def waits(folder: Path, runs: int) -> None:
    """What training waits for a save, and what four steps with one take in all, medians. The first save of a run,
    which training always waits for, is left out."""
    print("| model | size | `checkpoint.asynchronous` | training waits per save | 4 steps and a save | saves |")
    print("|---|---:|---|---:|---:|---:|")
    for name, overrides in WAITS.items():
        model = "nano" if name == "nano" else str(model_folder(folder, make_cell("mid", 1, 64, 8, 1, (112, 1))))
        waited: dict[str, list[float]] = {"false": [], "true": []}
        took: dict[str, list[float]] = {"false": [], "true": []}
        size = 0.0
        for number in range(runs):
            for beside in waited:
                out = folder / f"{name}-{beside}-{number}"
                words = [f"model={model}", f"checkpoint.asynchronous={beside}", "checkpoint.every=4", f"out={out}"]
                words += ["blindness.every=0", "data.val_size=20", "sft.epochs=1", "sft.val_every=1000", *overrides]
                train(load_recipe(recipes_folder() / "nano-coldstart.toml", words))
                records = read_metrics(out)
                waited[beside] += [r["time/checkpoint_s"] for r in records[8:] if "time/checkpoint_s" in r]
                took[beside] += [sum(r["time/step_s"] for r in records[i : i + 4]) for i in range(8, 24, 4)]
                size = megabytes(out)
        for beside, seconds in waited.items():
            wait, all_four = statistics.median(seconds), statistics.median(took[beside])
            print(f"| {name} | {size:.0f} MB | {beside} | {wait:.3f} s | {all_four:.2f} s | {len(seconds)} |")


def shares() -> None:
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
        print(f"\nThe lock, once a run: {lock_ms(Path(folder)):.2f} ms.")


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
    size = megabytes(out)
    share, little = save / (save + every * step), besides / step
    return (
        f"| {name} | {step * 1e3:.0f} ms | {save * 1e3:.0f} ms | {size:.1f} MB | {every} steps | {share:.2%} | "
        f"{besides * 1e3:.2f} ms ({little:.3%}) |"
    )


def megabytes(out: Path) -> float:
    last = sorted((out / "checkpoints").iterdir())[-1]
    return sum(f.stat().st_size for f in last.rglob("*") if f.is_file()) / 1e6


def lock_ms(folder: Path) -> float:
    times = []
    for _ in range(50):
        started = time.perf_counter()
        with FolderLock(folder):
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
