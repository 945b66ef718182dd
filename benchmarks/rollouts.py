"""Seconds per phase of GRPO with rollouts in process and in a vLLM server, on one and on two training processes.

    python benchmarks/rollouts.py --vllm .venv-vllm/bin/python                 # the machine must be idle
    python benchmarks/rollouts.py --vllm .venv-vllm/bin/python --ranks 1 --steps 6 --prompts 8 --group 8

Every line trains the same recipe for the same number of steps, one thread per process (the server has one too); a
figure is the median over all steps but the first two. The engines draw with random numbers of their own, so that the
tokens differ, and with them a little the work. `sync` is the whole update of the server's weights; `MB` is what it
sends.
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

RECIPE = """
name = "rollouts"
stage = "grpo"
model = "{model}"
out = "{out}"
data.train = "world:math"
data.train_size = 400
rollout.engine = "{engine}"
rollout.prompts_per_step = {prompts}
rollout.group_size = {group}
rollout.max_new_tokens = 96
algorithm.steps = {steps}
optim.lr = 1e-5
blindness.every = 0
checkpoint.every = 1000
log.tensorboard = false
cluster.shard = "none"
vllm.python = "{vllm}"
vllm.args = ["--max-model-len", "256"]
"""
COLUMNS = ("rollout", "sync", "train", "step")


def run(args: argparse.Namespace, engine: str, ranks: int) -> list[dict[str, float]]:
    """The metrics of each step."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, out = Path(folder) / "rollouts.toml", Path(folder) / "run"
        text = RECIPE.format(
            model=args.model, out=out, engine=engine, prompts=args.prompts, group=args.group, steps=args.steps,
            vllm=Path(args.vllm).absolute(),
        )  # fmt: skip
        recipe.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "seethink", "launch", str(recipe), f"cluster.trainers={ranks}"]
        quiet = {"OMP_NUM_THREADS": "1", "VLLM_CACHE_ROOT": str(Path(args.vllm).absolute().parents[1] / "cache")}
        subprocess.run(command, check=True, env=os.environ | quiet, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def megabytes(model: str) -> float:
    """What one update sends."""
    import torch

    from seethink.models.load import load_model
    from seethink.models.weight_stream import checkpoint_weights

    return sum(t.nbytes for _, t in checkpoint_weights(load_model(model).model, torch.float32)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", required=True, help="Python of an environment with vLLM and seethink.")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    args = parser.parse_args()
    print(f"{date.today()}  {args.model}, {args.prompts} prompts x {args.group}, one thread per process, "
          f"{megabytes(args.model):.1f} MB per update\n")  # fmt: skip
    names = " | ".join(f"{name} s" for name in COLUMNS)
    print(f"| rollouts | trainers | {names} | generated tokens/s | mismatch KL, largest step mean |")
    print("|---|---:|" + "---:|" * (len(COLUMNS) + 2))
    for ranks in map(int, args.ranks.split(",")):
        for engine in ("in_process", "vllm"):
            steps = run(args, engine, ranks)
            seconds = [f"{median(s.get(f'time/{name}_s', 0.0) for s in steps[2:]):.2f}" for name in COLUMNS]
            speed = median(s["throughput/generated_tokens_per_s"] for s in steps[2:])
            mismatch = max(s["mismatch_kl/mean"] for s in steps)
            print(f"| {engine} | {ranks} | {' | '.join(seconds)} | {speed:,.0f} | {mismatch:.1e} |", flush=True)


if __name__ == "__main__":
    main()
