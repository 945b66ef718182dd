"""Whether critical-token entropy finds good checkpoints, over all RL runs of lab folders that begin with a cold start.

    seethink lab run methods --seeds 5 --out runs/lab      # and others: what a run was made for does not matter
    python benchmarks/selection_study.py runs/lab --out benchmarks/selection_study.json

Every checkpoint is measured where its run's own cold start turned (up to 256 fixed forks) and on held-out questions, as
the lab's `selection` does with four runs a seed: about 25 s of one core for a run of three checkpoints. What is
measured is kept in the run's folder, so that the command goes on where it was stopped; `--share 0/2` measures every
second run, for two commands at a time. Prints a Markdown table; intervals are over cold starts, each with all its runs
(1,000 resamples, 95%).
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from seethink.core.console import progress_bar
from seethink.core.files import write_json
from seethink.runs.reading import read_object
from seethink.studies.lab.measurements import MEASUREMENTS
from seethink.studies.lab.reading import FORKS, Unreadable, read_term
from seethink.studies.lab.schema import Term

RIVALS = ("fork_entropy", "reward", "uncertain_reward", "accuracy", "last", "random")
SETTINGS = {"size": 36, "max_new_tokens": 128}
INSIDE, ALL = "world2:rl?levels=1-4", "world2:rl,core,tuning,held?levels=1-4"
FEWEST_FORKS = 200


def runs_of(labs: list[Path]) -> dict[str, list[Path]]:
    """RL runs with several checkpoints, by the cold start in the same folder that they begin with."""
    found = defaultdict(list)
    for job in (job for lab in labs for job in sorted(lab.glob("arms/rl-*/job.json"))):
        parent = Path(read_object(job)["recipe"]["model"]).parent.name
        if parent.startswith("coldstart-") and len(list(job.parent.glob("checkpoints/step_*/config.json"))) > 1:
            found[parent].append(job.parent)
    return dict(found)


def measure(run: Path, parent: str) -> None:
    """select.json and forks.json of a run, where they are not there."""
    seed = read_object(run / "job.json")["recipe"]["seed"]
    if not (run / "select.json").exists():
        MEASUREMENTS["select"]("", run, {"seed": seed, "data": ALL, **SETTINGS})
    if not (run / FORKS).exists():
        MEASUREMENTS["forks"]("", run, {"seed": seed, "data": INSIDE, "reference": parent, **SETTINGS})


def value(folders: dict[str, Path], names: list[str], **asked: Any) -> float:
    """A value of the study over these runs together, as the lab reads it."""
    # A run alone is named twice: the study asks for several, and takes means.
    others = tuple(names[1:]) or (names[0],)
    try:
        return read_term(Term(arm=names[0], runs=others, domain="out", **asked), folders).value
    except Unreadable:  # of a draw whose halves do not agree, so that nothing can be corrected
        return math.nan


def found_in(groups: dict[str, list[Path]]) -> dict[str, Any]:
    """The numbers of the table, and each run's own."""
    folders = {run.name: run for runs in groups.values() for run in runs}
    regrets = {
        run.name: {rival: value(folders, [run.name], study="regret", criterion=rival) for rival in RIVALS}
        for runs in groups.values()
        for run in runs
    }
    rng = np.random.default_rng(0)
    drawn = [[run.name for i in rng.integers(len(groups), size=len(groups)) for run in list(groups.values())[i]]
             for _ in range(1000)]  # fmt: skip
    every = [run.name for runs in groups.values() for run in runs]
    rows = {}
    for rival in RIVALS:
        means = [float(np.mean([100 * regrets[name][rival] for name in names])) for names in (every, *drawn)]
        against = [float(np.mean([100 * (regrets[n]["fork_entropy"] - regrets[n][rival]) for n in names]))
                   for names in (every, *drawn)]  # fmt: skip
        rows[rival] = {"regret": _interval(means), "fork_entropy_less_it": _interval(against)}
    correlations = [value(folders, names, study="correlation") for names in (every, *drawn[:200])]
    lost = sum(map(math.isnan, correlations))
    return {"regret_points": rows, "correlation": _interval(correlations), "draws_without": lost, "runs": regrets}


def _interval(values: list[float]) -> list[float]:
    """[of all, low, high]"""
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return [round(float(v), 3) for v in (values[0], low, high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--share", default="0/1", help="I/N: measure the runs I, I + N, ... alone, and print nothing")
    args = parser.parse_args()
    groups = runs_of(args.labs)
    own, of = map(int, args.share.split("/"))
    todo = [(run, parent) for parent, runs in groups.items() for run in runs][own::of]
    with progress_bar("runs", len(todo)) as advance:
        for run, parent in todo:
            measure(run, parent)
            advance(1, run.name)
    if of > 1:
        return
    forks = {run: read_object(run / FORKS)["checkpoints"] for runs in groups.values() for run in runs}
    few = {run for run, found in forks.items() if len(next(iter(found.values()))["entropies"]) < FEWEST_FORKS}
    kept = {parent: [run for run in runs if run not in few] for parent, runs in groups.items()}
    found = found_in({parent: runs for parent, runs in kept.items() if runs})
    checkpoints = sum(len(forks[run]) for runs in kept.values() for run in runs)
    counts = {"runs": len(found["runs"]), "checkpoints": checkpoints, "cold_starts": sum(map(bool, kept.values()))}
    print(json.dumps(counts | {"left_out_with_few_forks": len(few)}))
    said = "correlation with out-of-domain accuracy, within runs and steps, corrected: {} [{}, {}]"
    print(said.format(*found["correlation"]) + f", {found['draws_without']} of 200 draws without a value")
    print("\n| chosen by | regret, points out-of-domain | critical-token entropy's less it |\n|---|---:|---:|")
    for rival, row in found["regret_points"].items():
        cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*row[key]) for key in ("regret", "fork_entropy_less_it")]
        print(f"| {rival} | {cells[0]} | {cells[1] if rival != 'fork_entropy' else ''} |")
    if args.out:
        write_json(args.out, counts | found)


if __name__ == "__main__":
    main()
