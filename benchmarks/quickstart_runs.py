"""Several quickstarts as one table: the mean of every stage, and how far one run may lie from it.

    seethink quickstart --seed 0 --out runs/a      # and so on, with other seeds and OMP_NUM_THREADS
    python benchmarks/quickstart_runs.py runs/a runs/b runs/c --out src/seethink/studies/quickstart_runs.json

Prints a Markdown table with the standard deviation between runs, and writes the accuracies of every run, from which
`seethink quickstart` says on the terminal and on its page how far one run may lie from the mean.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from seethink.report import scores
from seethink.report.load import load_run


def of_run(path: Path) -> dict[str, Any]:
    """Accuracies in per cent by group of domains and stage, at temperature 1 and greedy."""
    run = load_run(path)
    mode = scores.main_mode(run)
    assert mode is not None, f"{path} has not been evaluated"
    found: dict[str, Any] = {"seed": _seed(path), "machine": run.facts["machine"]}
    for label, names in scores.domain_groups(run).items():
        for title, how in ((label, mode), (f"{label}, greedy", "greedy")):
            means = {stage.name: scores.mean_score(stage, names, how) for stage in run.stages}
            found[title] = {name: round(100 * m.accuracy, 2) for name, m in means.items() if m is not None}
    return found


def _seed(path: Path) -> int:
    return int(json.loads((path / "grpo" / "recipe.json").read_text(encoding="utf-8"))["seed"])


def table(runs: list[dict[str, Any]]) -> str:
    groups = [key for key, value in runs[0].items() if isinstance(value, dict)]
    lines = ["| | " + " | ".join(groups) + " |", "|---|" + "---:|" * len(groups)]
    for stage in runs[0][groups[0]]:
        cells = []
        for group in groups:
            values = [run[group][stage] for run in runs]
            cells.append(f"{mean(values):.1f} ± {stdev(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    runs = [of_run(path) for path in args.runs]
    print(table(runs))
    if args.out:
        args.out.write_text(json.dumps({"date": str(date.today()), "runs": runs}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
