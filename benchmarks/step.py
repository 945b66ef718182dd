"""seethink's GRPO step against TRL 1.16.0's GRPOTrainer, the same work on the same CPU, interleaved.

    python -m venv .venv-trl                                      # TRL has an environment of its own
    .venv-trl/bin/pip install torch==2.13.0
    .venv-trl/bin/pip install --no-deps torchvision==0.28.0
    .venv-trl/bin/pip install -r benchmarks/requirements-trl.txt

    .venv/bin/python benchmarks/step.py --model nano --grid small           # six cells, 30 to 90 s each
    .venv/bin/python benchmarks/step.py --model nano --cell 8,128,128       # one cell: G, prompt, response tokens
    .venv/bin/python benchmarks/step.py --model nano mid --grid full --out benchmarks/step_DATE

Two tracks. `replay`: the same token ids, image tensors and advantages on both sides, from there to updated weights.
`step`: a whole step with responses of a fixed length (end-of-turn suppressed): images and templates, sampling,
reward, advantages, forward, backward, optimizer. Before a cell is timed, both sides compute the loss and the gradient
of one ragged replay (unlike prompt and response lengths, so padding is tried); where the gradients differ by more
than 1e-4 of their norm the cell is refused.

Each side is a process of its own (a new one for each cell, so that its peak memory is the cell's), driven over pipes:
A, B, B, A, ... with equal threads. On both sides: float32, AdamW (fused) without weight decay, gradients clipped to 1,
clip 0.2, no KL, one update an episode, temperature 1, the reward a bit of the response's CRC. TRL: fused LM head (it
has no other), no gradient checkpointing, no logging, pictures in memory, micro-batch the fastest of up to four. Its
static cache and torch's `medium` matrix products were tried for it (`--trl-cache`, `--trl-matmul`) and are slower: by
a quarter and by two fifths of a step's CPU time at nano 8,32,64; `medium` by a twentieth of training at mid 8,128,64.
seethink: as `seethink train` runs it; `--set KEY=VALUE` changes recipe keys.

The number of prompts a step is the same on both sides and depends on the cell alone: enough for --step-tokens tokens
(prompts counted once per row), at least one, at most 16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

from step_driver import DisagreeError, Settings, measure
from step_models import SHAPES, make_cell, model_folder
from step_report import markdown, one_line
from step_work import Cell

ROOT = Path(__file__).resolve().parents[1]
FULL = (8, 16, 32), (32, 128, 512), (32, 128, 512)
"""Group sizes, prompt tokens, response tokens."""
SMALL = ((8, 32, 32), (8, 128, 32), (8, 128, 128), (16, 512, 32), (32, 32, 128), (8, 32, 512))
STEP_TOKENS = {"nano": 8192, "mid": 4096}
MOST_PROMPTS = 16


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=list(SHAPES), default=["nano"])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--grid", choices=("small", "full"), default="small", help="6 or 27 cells a model")
    what.add_argument("--cell", action="append", metavar="G,P,R", help="one cell; may be given again")
    parser.add_argument("--track", nargs="+", choices=("replay", "step"), default=["replay", "step"])
    parser.add_argument("--repeats", type=int, default=5, help="measured steps of each side and track")
    parser.add_argument("--warmups", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompts", type=int, help="prompts a step, in place of the rule above")
    parser.add_argument("--step-tokens", type=int, help=f"default by model: {STEP_TOKENS}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="recipe key of seethink's side")
    parser.add_argument("--trl-python", default=Settings.trl_python)
    parser.add_argument("--trl-rows", type=int, help="rows of TRL's micro-batch, in place of trying")
    parser.add_argument("--trl-cache", help="TRL's cache_implementation, e.g. static")
    parser.add_argument("--trl-matmul", choices=("high", "medium"), help="torch.set_float32_matmul_precision there")
    parser.add_argument("--max-micro-tokens", type=int, default=Settings.max_micro_tokens)
    parser.add_argument("--models", type=Path, default=ROOT / "runs" / "bench-step", help="folder of the made models")
    parser.add_argument("--out", type=Path, help="write OUT.json (after every cell; cells in it are kept) and OUT.md")
    return parser.parse_args()


def choose_cells(args: argparse.Namespace) -> list[Cell]:
    if args.cell:
        shapes = [tuple(int(n) for n in cell.split(",")) for cell in args.cell]
    elif args.grid == "full":
        shapes = [(g, p, r) for r in FULL[2] for p in FULL[1] for g in FULL[0]]
    else:
        shapes = list(SMALL)
    cells = []
    for model in args.model:
        wanted = args.step_tokens or STEP_TOKENS[model]
        for g, p, r in shapes:
            prompts = args.prompts or max(1, min(MOST_PROMPTS, wanted // (g * (p + r))))
            cells.append(make_cell(model, g, p, r, prompts, None))
    return cells


def about_run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return {
        "date": str(date.today()),
        "machine": f"{names[0] if names else platform.machine()}, {args.threads} threads of {os.cpu_count()} cores",
        "torch": torch.__version__,
        "overrides": args.set,
        "trl_cache": args.trl_cache,
        "trl_matmul": args.trl_matmul,
        "repeats": args.repeats,
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    args = parse_args()
    settings = Settings(
        threads=args.threads,
        repeats=args.repeats,
        warmups=args.warmups,
        overrides=tuple(args.set),
        trl_python=args.trl_python,
        max_micro_tokens=args.max_micro_tokens,
        micro_rows=args.trl_rows,
        cache=args.trl_cache,
        matmul=args.trl_matmul,
    )
    path = args.out and args.out.with_suffix(".json")
    report: dict[str, Any] = {"about": about_run(args), "cells": []}
    if path and path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
        report["cells"] = [found for found in stored if "refused" not in found]
    done = [Cell(**found["cell"]) for found in report["cells"]]
    for cell in choose_cells(args):
        if cell in done:
            continue
        started = time.perf_counter()
        try:
            result = measure(cell, model_folder(args.models, cell), settings, args.track)
        except DisagreeError as error:
            result = {"cell": cell.as_json(), "refused": str(error)}
        result["wall_s"] = time.perf_counter() - started
        report["cells"].append(result)
        print(one_line(result), flush=True)
        if path:
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text(markdown(report), encoding="utf-8")
    if not path:
        print("\n" + markdown(report))


if __name__ == "__main__":
    main()
