"""What the thinking of several quickstarts is worth, before and after RL: greedy, on RL's own domains.

    seethink quickstart --seed 0 --out runs/a      # and so on, with other seeds
    python benchmarks/quickstart_thinking.py runs/a runs/b runs/c      # under a minute per model on one core

Prints a Markdown table: mean and standard deviation over the runs of what `seethink world examine` finds. Each run
keeps its own in examined-STAGE.json, and is not asked again. A second table has the accuracy of the quickstart's own
evaluation, greedy, by how many tokens the teacher's trace of an item takes.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from seethink.runs.reading import final_model
from seethink.studies.examination import examine
from seethink.world.v2.domains import GROUPS
from seethink.world.v2.items import item_of
from seethink.world.v2.words import build_tokenizer_core

STAGES = {"base": "", "cold start": "coldstart", "RL": "grpo"}
"""By name, the folder of the run that leaves the model."""
DATA, SIZE = "world2:rl", 100
LENGTHS = (10, 25, 40, 60, 90, 200)
"""Where the classes of length begin, in tokens."""
TOKENIZER = build_tokenizer_core()


def examined(run: Path, stage: str) -> dict[str, dict[str, Any]]:
    """The examinations of one model by domain; `all` is over all domains."""
    out = run / f"examined-{stage.replace(' ', '-')}.json"
    if not out.exists():
        folder = STAGES[stage]
        model = final_model(run / folder) if folder else "nano2"
        assert model is not None, f"{run / folder} has not ended"
        examine(str(model), DATA, size=SIZE, samples=0, max_new_tokens=192, seed=0, out=out)
    return {one["domain"]: one for one in json.loads(out.read_text(encoding="utf-8"))["examinations"]}


def values(found: dict[str, dict[str, Any]], thinks: bool) -> dict[str, float]:
    """Every number of the table, in per cent; nan where there is nothing to count. The base does not think."""
    whole = found["all"]
    rows = {"accuracy": whole["accuracy"]["value"]}
    rows |= {f"`{domain}`": found[domain]["accuracy"]["value"] for domain in GROUPS["rl"]}
    rows |= {f"level {level}": interval["value"] for level, interval in whole["by_level"].items()}
    if thinks:
        rows |= {f"P(Wait, first attempt {key})": whole[f"wait_after_{key}"]["value"] for key in ("wrong", "right")}
        rows |= {f"wrong: {kind}": share for kind, share in whole["mistakes"].items()}
    return {label: math.nan if value is None else 100 * float(value) for label, value in rows.items()}


def by_length(run: Path, stage: str, lengths: dict[str, int]) -> dict[str, float]:
    """Accuracy in per cent over all domains of a run's own evaluation, by the tokens of the teacher's trace."""
    lines = (run / (STAGES[stage] or "base") / "eval" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    items = [item for item in map(json.loads, lines) if item["mode"] == "greedy"]
    for item in items:
        if item["id"] not in lengths:
            lengths[item["id"]] = len(TOKENIZER.encode(item_of(item["id"]).trace).ids)
    found = {}
    for low, high in pairwise(LENGTHS):
        own = [item["accuracy"] for item in items if low <= lengths[item["id"]] < high]
        found[f"{low} to {high - 1} tokens"] = 100 * mean(own) if own else math.nan
    return found


def cell(numbers: list[float]) -> str:
    known = [number for number in numbers if not math.isnan(number)]
    if not known:
        return "-"
    return f"{mean(known):.1f}" + (f" ± {stdev(known):.1f}" if len(known) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    args = parser.parse_args()
    print_table(
        f"greedy, n = {SIZE} items of each of RL's domains",
        {stage: [values(examined(run, stage), stage != "base") for run in args.runs] for stage in STAGES},
    )
    lengths: dict[str, int] = {}
    print_table(
        "greedy, all domains of the evaluation, by the tokens of the teacher's trace",
        {stage: [by_length(run, stage, lengths) for run in args.runs] for stage in STAGES},
    )


def print_table(title: str, stages: dict[str, list[dict[str, float]]]) -> None:
    """A column for each stage; mean and standard deviation over its runs."""
    runs = len(stages["RL"])
    print(f"\n| {title}; mean ± standard deviation of {runs} runs | {' | '.join(stages)} |")
    print("|---|" + "---:|" * len(stages))
    for label in stages["RL"][0]:
        cells = [cell([found.get(label, math.nan) for found in own]) for own in stages.values()]
        print(f"| {label} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
