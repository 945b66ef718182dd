"""`seethink lab`: choose experiments, run them, write the reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seethink.core.console import console
from seethink.core.cores import available_cores
from seethink.core.files import claim_file, json_with, write_text
from seethink.runs.lock import FolderLock
from seethink.studies.lab.plan import make_plan
from seethink.studies.lab.plan_table import plan_table
from seethink.studies.lab.scales import Scale, find_scale, why_left_out
from seethink.studies.lab.scheduler import INDEX, run_plan
from seethink.studies.lab.schema import Experiment, LabError, load_experiments

if TYPE_CHECKING:
    from rich.table import Table

    from seethink.studies.lab.results import Results


def run_lab(names: list[str], *, seeds: int, first_seed: int, scale: str, out: Path, jobs: int | None) -> Path:
    """The path of the report. Exit code 1: an arm failed."""
    plan = make_plan(choose(names, find_scale(scale)), scale, seeds, out, first_seed)
    claim_file(out / INDEX, json_with("experiments"), "an index of `seethink lab`", "--out ")
    claim_file(out / "report.html", lambda _: (out / INDEX).is_file(), "a report of `seethink lab`", "--out ")
    with FolderLock(out, "--out "):
        outcome = run_plan(plan, out, jobs or available_cores(), _say)
        page = write_reports(out)
    if outcome.failed:
        _say(f"{len(outcome.failed)} jobs failed; the others are in {page}")
        raise typer.Exit(1)
    return page


def show_plan(names: list[str], *, seeds: int, scale: str, power: bool, values: Path | None) -> Table:
    """What would run and for how long; with `power` what its claims can show. Raises LabError."""
    if values is not None and not power:
        raise LabError("--from is of --power: give both, or neither")
    chosen = choose(names, find_scale(scale))
    if not power:
        return plan_table(make_plan(chosen, scale, seeds, Path("lab")), available_cores())
    from seethink.studies.lab.power import power_table
    from seethink.studies.lab.values import read_values

    return power_table(chosen, seeds, find_scale(scale), read_values(values) if values else None)


def choose(names: list[str], scale: Scale) -> list[Experiment]:
    """Experiments by name; `all` leaves out those that cannot run at the scale, with a line. Raises LabError.

    `primary` stands for those that have a primary claim.
    """
    known = load_experiments()
    of_primary = [name for name, one in known.items() if any(claim.primary for claim in one.claims)]
    names = [one for name in names for one in (of_primary if name == "primary" else [name])]
    if "all" in names:
        reasons = {name: why_left_out(one, scale) for name, one in known.items()}
        for name, why in reasons.items():
            if why:
                _say(f"{name} is left out: {why}")
        return [one for name, one in known.items() if not reasons[name]]
    for name in names:
        if name not in known:
            raise LabError(f"no experiment {name!r}; choose from all, primary, {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def write_reports(out: Path, markdown: Path | None = None) -> Path:
    """Write values.json, report.html and report.md in the lab's folder, and the table to `markdown` too.

    Raises LabError.
    """
    from seethink.studies.lab.collect import collect_values
    from seethink.studies.lab.lab_page import render
    from seethink.studies.lab.results import load_results
    from seethink.studies.lab.table import as_markdown
    from seethink.studies.lab.values import VALUES, write_values

    values = collect_values(out)
    results = load_results(out, values)
    write_values(out / VALUES, values)
    table = as_markdown(results)
    write_text(out / "report.md", table)
    write_text(out / "report.html", render(results))
    if markdown is not None:
        write_text(markdown, table)
    return out / "report.html"


def judge_again(file: Path, markdown: Path | None = None) -> Results:
    """The verdicts that follow from a values.json alone; the table to `markdown` too. Raises LabError."""
    from seethink.studies.lab.results import judge_values
    from seethink.studies.lab.table import as_markdown
    from seethink.studies.lab.values import read_values

    results = judge_values(read_values(file))
    if markdown is not None:
        write_text(markdown, as_markdown(results))
    return results


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
