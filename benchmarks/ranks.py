"""Seconds per phase of GRPO on one and on two processes, one thread each.

    python benchmarks/ranks.py               # the machine must be idle
    python benchmarks/ranks.py --model nano --ranks 1,2,4 --steps 12

Every number of processes trains the same recipe, the sizes of the quickstart's RL; runs take turns, and a figure is the
median over all steps but each run's first two. The tokens of all runs are the same, so that the work is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median

PHASES = ("rollout", "reward", "train", "step")
RECIPE = """
name = "ranks"
stage = "grpo"
model = "{model}"
out = "{out}"
data.train = "world:math"
data.train_size = 400
rollout.prompts_per_step = 16
rollout.group_size = 16
rollout.max_new_tokens = 96
algorithm.steps = {steps}
optim.lr = 1e-5
blindness.every = 0
checkpoint.every = 1000
log.tensorboard = false
"""


def run(model: str, ranks: int, steps: int) -> list[dict[str, float]]:
    """The metrics of each step."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "ranks.toml"
        out = Path(folder) / "run"
        recipe.write_text(RECIPE.format(model=model, out=out, steps=steps), encoding="utf-8")
        command = [sys.executable, "-m", "seethink", "launch", str(recipe), f"cluster.trainers={ranks}"]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    numbers = [int(word) for word in args.ranks.split(",")]
    records: dict[int, list[dict[str, float]]] = {n: [] for n in numbers}
    rewards: dict[int, list[float]] = {}
    for _ in range(args.repeats):
        for n in numbers:
            found = run(args.model, n, args.steps)
            records[n] += found[2:]
            rewards[n] = [record["reward/mean"] for record in found]
    same = all(values == rewards[numbers[0]] for values in rewards.values())
    print(f"{date.today()}  {args.model}, one thread per process, medians of {len(records[numbers[0]])} steps; "
          f"rewards of all runs {'equal' if same else 'DIFFER'}\n")  # fmt: skip
    print("| processes | " + " | ".join(f"{phase} s" for phase in PHASES) + " | step, times as fast |")
    print("|---|" + "---:|" * (len(PHASES) + 1))
    seconds = {n: {p: median(r[f"time/{p}_s"] for r in records[n]) for p in PHASES} for n in numbers}
    for n in numbers:
        cells = " | ".join(f"{seconds[n][phase]:.2f}" for phase in PHASES)
        print(f"| {n} | {cells} | {seconds[numbers[0]]['step'] / seconds[n]['step']:.2f} |")


if __name__ == "__main__":
    main()
