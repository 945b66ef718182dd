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


Way = tuple[int, str]
"""How many processes, and what they share of the weights."""


def run(model: str, way: Way, steps: int) -> list[dict[str, float]]:
    """The metrics of each step."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "ranks.toml"
        out = Path(folder) / "run"
        recipe.write_text(RECIPE.format(model=model, out=out, steps=steps), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "seethink",
            "launch",
            str(recipe),
            f"cluster.trainers={way[0]}",
            f"cluster.shard={way[1]}",
        ]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--shard", default="none,zero2,zero3")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    ranks, shards = [int(word) for word in args.ranks.split(",")], args.shard.split(",")
    ways = [(n, shard) for n in ranks for shard in (shards if n > 1 else ["none"])]
    records: dict[Way, list[dict[str, float]]] = {way: [] for way in ways}
    rewards: dict[Way, list[float]] = {}
    for _ in range(args.repeats):
        for way in ways:
            found = run(args.model, way, args.steps)
            records[way] += found[2:]
            rewards[way] = [record["reward/mean"] for record in found]
    same = all(values == rewards[ways[0]] for values in rewards.values())
    print(f"{date.today()}  {args.model}, one thread per process, medians of {len(records[ways[0]])} steps; "
          f"rewards of all runs {'equal' if same else 'DIFFER'}\n")  # fmt: skip
    print(
        "| processes | weights | " + " | ".join(f"{phase} s" for phase in PHASES) + " | train, times as fast | step |"
    )
    print("|---|---|" + "---:|" * (len(PHASES) + 2))
    seconds = {way: {p: median(r[f"time/{p}_s"] for r in records[way]) for p in PHASES} for way in ways}
    for way in ways:
        cells = " | ".join(f"{seconds[way][phase]:.2f}" for phase in PHASES)
        train, step = (seconds[ways[0]][phase] / seconds[way][phase] for phase in ("train", "step"))
        print(f"| {way[0]} | {way[1]} | {cells} | {train:.2f} | {step:.2f} |")


if __name__ == "__main__":
    main()
