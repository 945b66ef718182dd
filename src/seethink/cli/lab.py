"""`seethink lab`: the paper's experiments on a nano model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink.core.console import console

app = typer.Typer(help="The paper's experiments, each with its claims and verdicts.", no_args_is_help=True)

DEFAULT = "nano2"
SCALES = "`nano2`; `nano`, the first world's; or `smoke`, to check that everything runs."
Out = Annotated[Path, typer.Option(help="Folder for arms, results and report.")]


@app.command("list", epilog="Example: `seethink lab list`")
def list_experiments() -> None:
    """The experiments: section of the paper, claims, and why one cannot run here."""
    from seethink.studies.lab.plan_table import list_table

    console.print(list_table(DEFAULT))


@app.command(epilog="Example: `seethink lab run all --seeds 3 --out lab`")
def run(
    names: Annotated[
        list[str], typer.Argument(help="Experiments by name, `all`, or `primary`: those with a primary claim.")
    ],
    seeds: Annotated[int, typer.Option(help="Number of seeds; each has its own cold start.", min=1)] = 3,
    first_seed: Annotated[
        int, typer.Option(help="The lowest; machines that share the seeds have one each, and `verdicts` joins.", min=0)
    ] = 0,
    scale: Annotated[str, typer.Option(help=SCALES)] = DEFAULT,
    out: Out = Path("lab"),
    jobs: Annotated[
        int | None, typer.Option(help="Arms trained at a time; default: the number of cores.", min=1)
    ] = None,
) -> None:
    """Train and measure every arm that is not finished, then write the report.

    Called again, it continues where it stopped. Exit code 1: an arm failed. 75: a signal stopped it.
    """
    from seethink.studies.lab.commands import run_lab

    report = run_lab(names, seeds=seeds, first_seed=first_seed, scale=scale, out=out, jobs=jobs)
    console.print(f"report: {escape(str(report))}", soft_wrap=True)


@app.command(epilog="Example: `seethink lab plan all --power --seeds 5 --from lab/values.json`")
def plan(
    names: Annotated[list[str], typer.Argument(help="Experiments by name, `all`, or `primary`.")],
    seeds: Annotated[int, typer.Option(help="Number of seeds.", min=1)] = 3,
    scale: Annotated[str, typer.Option(help=SCALES)] = DEFAULT,
    power: Annotated[
        bool, typer.Option("--power", help="The smallest effect of each claim that can be found.")
    ] = False,
    values: Annotated[
        Path | None,
        typer.Option("--from", help="Of --power: a values.json of earlier results, for how much seeds differ."),
    ] = None,
) -> None:
    """What a run would train and how long it takes; with --power, what its claims can show. Nothing is run.

    An effect counts as found where its interval excludes no effect with a probability of 80%. Without --from, how much
    seeds differ is known for accuracies alone, from their number of items, and too small.
    """
    from seethink.studies.lab.commands import show_plan

    console.print(show_plan(names, seeds=seeds, scale=scale, power=power, values=values))


@app.command(epilog="Example: `seethink lab report --out lab --markdown docs/lab-results.md`")
def report(
    out: Out = Path("lab"),
    markdown: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
) -> None:
    """Every claim with effect, interval, n and verdict beside the paper's figure: report.html and report.md.

    values.json beside them has what was measured, per claim and seed: `seethink lab verdicts` judges it again.
    """
    from seethink.studies.lab.commands import write_reports

    page = write_reports(out, markdown)
    console.print(f"report: {escape(str(page))}", soft_wrap=True)


@app.command(epilog="Example: `seethink lab verdicts lab/values.json`")
def verdicts(
    file: Annotated[Path, typer.Argument(help="A values.json of `seethink lab report`.")],
    markdown: Annotated[Path | None, typer.Option(help="Also write the table of `lab report` here.")] = None,
) -> None:
    """Judge every claim again, from the measured values alone: no arm, no checkpoint and no report is read."""
    from seethink.studies.lab.commands import judge_again
    from seethink.studies.lab.table import verdict_table

    console.print(verdict_table(judge_again(file, markdown)))
