"""Commands on files and run folders: grade, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink.core.console import console
from seethink.core.errors import as_user_error

app = typer.Typer()


@app.command(epilog="Example: `seethink grade cases.jsonl --out verdicts.jsonl`")
def grade(
    cases: Annotated[Path, typer.Argument(help="JSONL rows: id, gold, prediction, answer_type?, choices?, expected?")],
    out: Annotated[Path | None, typer.Option(help="JSONL of id, verdict, extracted, reason.")] = None,
) -> None:
    """Grade a file as the reward does.

    Cases with `expected` also give accuracy and error rates by answer type, and the misses.
    """
    from seethink.rewards.grade_files import grade_file, render

    console.print(render(as_user_error(lambda: grade_file(cases, out))))


@app.command(epilog="Example: `seethink report runs/quickstart`")
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of a pipeline.")],
    out: Annotated[Path | None, typer.Option(help="File to write; default: RUN/report.html.")] = None,
) -> None:
    """Write one self-contained HTML page: curves, tables, parts, and the rollouts themselves."""
    from seethink.report import write_report

    console.print(f"report: {escape(str(as_user_error(lambda: write_report(run, out))))}", soft_wrap=True)
