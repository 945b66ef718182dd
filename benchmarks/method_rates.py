"""The learning rate of every arm of the lab's `methods`, chosen on questions that no evaluation has.

    python benchmarks/method_rates.py --out runs/rates     # goes on where it was stopped

One seed that the lab does not use trains every arm at every rate. The arm's rate is the one whose last checkpoint is
best on RL's domains; it is for `src/seethink/studies/lab/experiments/methods.toml` to state. The questions are of the
stage `coldstart`, and an evaluation asks others. One thread; about 75 seconds per arm and rate on an AMD EPYC.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

from zoom import seethink

from seethink.runs.reading import final_model
from seethink.studies.lab.scales import find_scale
from seethink.studies.lab.schema import load_experiments

SEED = 100
RATES = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
FIRST = (1e-4, 2e-4)
"""Tried first; then the neighbours of the best, until both are tried."""


def trained(folder: Path, recipe: str, words: list[str]) -> Path:
    """The last model of a run in `folder`."""
    if final_model(folder) is None:
        common = [f"seed={SEED}", "log.tensorboard=false", "eval.every=0", "--resume"]
        seethink("train", f"recipes/{recipe}", f"out={folder}", *words, *common)
    model = final_model(folder)
    assert model is not None
    return model


def accuracy(model: Path, folder: Path, data: str, size: int) -> float:
    """Mean over the domains, two responses per question at temperature 1."""
    if not (folder / "eval.json").exists():
        seethink(
            "eval", str(model), "--data", data, "--size", str(size), "--samples", "2", "--no-greedy",
            "--max-new-tokens", "128", "--seed", str(SEED), "--out", str(folder),
        )  # fmt: skip
    scores = json.loads((folder / "eval.json").read_text(encoding="utf-8"))["scores"]
    return fmean(score["accuracy"] for score in scores if score["difficulty"] == "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100, help="questions of each of RL's domains")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    scale = find_scale("nano2")
    data = scale.questions.inside.replace("?", "?stage=coldstart&")
    experiment = load_experiments()["methods"]
    file, *words = scale.recipes["coldstart"]
    cold = trained(args.out / "cold", file, words)
    before = accuracy(cold, args.out / "cold" / "asked", data, args.size)
    print(f"The cold start: {100 * before:.1f}% right.\n")
    print("| arm | " + " | ".join(f"{rate:g}" for rate in RATES) + " | chosen |\n|---|" + "---:|" * (len(RATES) + 1))
    for name, arm in experiment.arms.items():
        if arm.stage != "rl" or name == "rl":  # the plain arm of other experiments
            continue
        steps = f"algorithm.steps={scale.steps(arm.length)}"
        file, *words = scale.recipes["rl"]
        found: dict[float, float] = {}
        tried = list(FIRST)
        while tried:
            for rate in tried:
                folder = args.out / f"{name}-{rate:g}"
                model = trained(folder, file, [f"model={cold}", *words, steps, *arm.set, f"optim.lr={rate:g}"])
                found[rate] = accuracy(model, folder / "asked", data, args.size)
            at = RATES.index(max(found, key=lambda rate: found[rate]))
            tried = [rate for rate in RATES[max(at - 1, 0) : at + 2] if rate not in found]
        cells = " | ".join(f"{100 * found[rate]:.1f}" if rate in found else "" for rate in RATES)
        print(f"| {name} | {cells} | {RATES[at]:g} |", flush=True)


if __name__ == "__main__":
    main()
