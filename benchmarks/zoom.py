"""RL with and without the zoom on `world:zoom`, over seeds: does looking closer pay?

    python benchmarks/zoom.py --seeds 5 --out runs/zoom     # goes on where it was stopped

With --jobs 2, two runs at a time, each on one thread. All sides have the same questions, steps, samples and teacher.
The traces of the side without a tool are the same ones less their calls; those of the side that may look are so for
half of the walls. Each seed has its own cold start and RL on each side; accuracies are of test items at temperature 1.
The file --values has those of every run; a run that it has is not trained again, so that `--values
benchmarks/zoom_values.json` makes the stored table at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from seethink.config import DataConfig, load_recipe
from seethink.core.files import write_text
from seethink.core.statistics import mean_se, t_interval
from seethink.runs.reading import final_model
from seethink.world.make import world_samples, write_parquet

SIDES = ("zoom", "may zoom", "no tool")
LEAPS = "?leaps=0.5"
"""Of the side that may look: the share of traces that answer without."""
Values = dict[str, dict[str, Any]]
"""Of every run, by its name: accuracy by stage, number of items, date."""
TOOL = re.compile("(environment|turns|turn_tokens) = ")
"""Keys of a recipe that give the model a tool."""


def seethink(*words: str) -> None:
    """A command, on one thread."""
    subprocess.run([sys.executable, "-m", "seethink", *words], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


def mixture(data: DataConfig, source: str) -> str:
    """The override that trains on `source` in place of the recipe's walls, beside its other source."""
    walls, others = data.mixture
    size = "" if source.endswith(".parquet") else f"size={walls.size}, "
    first = f"{{source={json.dumps(source)}, {size}weight={walls.weight}}}"
    other = f"{{source={json.dumps(others.source)}, size={others.size}, weight={others.weight}}}"
    return f"data.mixture=[{first}, {other}]"


def plain_traces(out: Path, seed: int, data: DataConfig) -> list[str]:
    """Write the teacher's traces less their calls; returns the overrides that train on them and on the other source."""
    walls = data.mixture[0]
    paths = {}
    for split, size in (("train", walls.size), ("val", data.val_size)):
        paths[split] = out / f"plain-{seed}-{split}.parquet"
        if not paths[split].exists():
            traces = world_samples(walls.source, split, size or 0, seed)
            without = [replace(s, response=re.sub(r"<tool_call>.*?</tool_call>", "", s.response or "")) for s in traces]
            write_parquet(without, paths[split])
    return [mixture(data, str(paths["train"])), f"data.val={json.dumps(str(paths['val']))}"]


def traces_of(side: str, out: Path, seed: int, data: DataConfig) -> list[str]:
    """The overrides of the cold start's data."""
    if side == "no tool":
        return plain_traces(out, seed, data)
    return [mixture(data, data.mixture[0].source + LEAPS)] if side == "may zoom" else []


def recipe_of(out: Path, name: str, side: str) -> str:
    """The shipped recipe; without its tool for the side that has none."""
    path = Path("recipes") / name
    if side != "no tool":
        return str(path)
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not TOOL.match(line)]
    plain = out / name
    write_text(plain, "\n".join(kept) + "\n")
    return str(plain)


def of_stage(stage: str, words: list[str]) -> list[str]:
    """The overrides of one stage, without its name."""
    return [word.removeprefix(f"{stage}:") for word in words if word.startswith(f"{stage}:")]


def name_of(side: str, seed: int) -> str:
    return f"{side.replace(' ', '-')}-{seed}"


def run_seed(out: Path, side: str, seed: int, size: int, words: list[str]) -> dict[str, float]:
    """Accuracy after the cold start and after RL."""
    name = name_of(side, seed)
    cold, rl = out / f"{name}-cold", out / f"{name}-rl"
    tool = side != "no tool"
    # Without the tool a model may be as good as blind to the wall: that is what is measured.
    common = ["log.tensorboard=false", "blindness.action='warn'", f"seed={seed}", "--resume"]
    first, then = (recipe_of(out, f"nano-zoom-{stage}.toml", side) for stage in ("coldstart", "grpo"))
    traces = traces_of(side, out, seed, load_recipe(Path(first)).data)
    seethink("train", first, f"out={cold}", *traces, *of_stage("coldstart", words), *common)
    seethink("train", then, f"out={rl}", f"model={cold}/best", *of_stage("grpo", words), *common)
    found = {}
    for stage, model in (("cold start", cold / "best"), ("RL", final_model(rl))):
        asked = out / f"{name}-eval-{stage.replace(' ', '-')}"
        if not (asked / "eval.json").exists():
            how = ["--environment", "zoom", "--turns", "3", "--turn-tokens", "96"] if tool else []
            seethink(
                "eval", str(model), "--data", "world:zoom", "--size", str(size), "--samples", "1", "--no-greedy",
                "--max-new-tokens", "192", "--seed", str(seed), *how, "--out", str(asked),
            )  # fmt: skip
        table = json.loads((asked / "eval.json").read_text(encoding="utf-8"))
        found[stage] = next(score["accuracy"] for score in table["scores"] if score["domain"] == "zoom")
    return found


def measured(path: Path, out: Path, pairs: list[tuple[str, int]], jobs: int, size: int, words: list[str]) -> Values:
    """The accuracies of every pair of side and seed: read from `path`, or trained and added to it."""
    values: Values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lacking = [pair for pair in pairs if name_of(*pair) not in values]
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run_seed, out, *pair, size, words): pair for pair in lacking}
        for run in as_completed(running):
            values[name_of(*running[run])] = {"items": size, "date": str(date.today()), **run.result()}
            write_text(path, json.dumps(dict(sorted(values.items())), indent=1) + "\n")
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=400, help="test items")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--values", type=Path, help="accuracies of each run (default: OUT/values.json)")
    parser.add_argument("words", nargs="*", help="coldstart:KEY=VALUE or grpo:KEY=VALUE, for a short trial")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pairs = [(side, seed) for seed in range(args.seeds) for side in SIDES]
    kept = args.values or args.out / "values.json"
    found = measured(kept, args.out, pairs, args.jobs, args.size, args.words)
    scores = {side: [found[name_of(side, seed)] for seed in range(args.seeds)] for side in SIDES}
    print(f"{args.seeds} seeds, {args.size} test items, {platform.machine()}, {date.today()}\n")
    print("| | cold start | RL |\n|---|---:|---:|")
    for side, runs in scores.items():
        cells = [mean_se([100 * run[stage] for run in runs]) for stage in ("cold start", "RL")]
        print(f"| {side} | " + " | ".join(_cell(mean, se) for mean, se in cells) + " |")
    print()
    for name, gains in gains_of(scores).items():
        gain = t_interval(gains)
        interval = f" [{gain.low:+.1f}, {gain.high:+.1f}] (95%)" if args.seeds > 1 else ", of one seed"
        print(f"{name}: {gain.value:+.1f} points{interval}.")


def gains_of(scores: dict[str, list[dict[str, float]]]) -> dict[str, list[float]]:
    """Points by seed: what RL adds on each side, and how far RL with the zoom ends above RL without."""
    found = {
        f"{side}: RL less cold start": [100 * (r["RL"] - r["cold start"]) for r in runs]
        for side, runs in scores.items()
    }
    *tools, plain = SIDES
    for side in tools:
        pairs = zip(scores[side], scores[plain], strict=True)
        found[f"RL: {side} less {plain}"] = [100 * (a["RL"] - b["RL"]) for a, b in pairs]
    return found


def _cell(mean: float, error: float) -> str:
    """One seed has no error."""
    return f"{mean:.1f}" if math.isnan(error) else f"{mean:.1f} ± {error:.1f}"


if __name__ == "__main__":
    main()
