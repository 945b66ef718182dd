"""`seethink coldstart`: questions and a teacher -> verified traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seethink.cli.options import Seed
from seethink.core.errors import UserError

app = typer.Typer()


@app.command(
    epilog="Example: `seethink coldstart questions.parquet -o cold --teacher http://127.0.0.1:8000/v1 --model NAME`"
)
def coldstart(
    questions: Annotated[str, typer.Argument(help="world:DOMAINS, a file, a folder, or a hub name.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE of [coldstart], [sft] (filters), [data], [reward] and [teacher]."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder; a second call goes on where the first stopped.")
    ] = ...,  # type: ignore[assignment]
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of an OpenAI-compatible server, as often as there are servers; or local:CHECKPOINT."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name under which the servers know the teacher.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file with the same sections as the words.")] = None,
    samples: Annotated[int | None, typer.Option(help="Traces per question, at most: coldstart.samples.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Read the first so many rows.", min=1)] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Benchmark whose questions and pictures are left out; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print prompts and an estimate; send nothing.")] = False,
    refilter: Annotated[bool, typer.Option("--refilter", help="Only select and report anew; send nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again what failed.")] = False,
    seed: Seed = 0,
) -> None:
    """Make verified reasoning traces for SFT: ask a teacher, grade, score, select.

    The folder gets data/train.jsonl and data/val.jsonl with their images, a data card, and report.html. Exit code 1:
    more than 1 % of the samples failed or could not be graded; give the command again. Words such as
    coldstart.per_question=2 or sft.max_repetition=0.4 change what is selected: with --refilter without a request.
    """
    from seethink.config.coldstart_file import coldstart_settings
    from seethink.studies.coldstart.command import ColdstartCommand
    from seethink.studies.coldstart.folder import COLLECTED

    given = [*(words or []), *([] if samples is None else [f"coldstart.samples={samples}"])]
    if refilter and (retry_failed or dry_run):
        raise UserError("--refilter sends nothing: leave --retry-failed and --dry-run out")
    collected = [word for word in given if refilter and word.partition("=")[0].removeprefix("coldstart.") in COLLECTED]
    if collected:
        raise UserError(f"--refilter sends nothing, and {collected[0]!r} says what is sent: leave one of them out")
    command = ColdstartCommand(
        questions,
        out,
        coldstart_settings(recipe, given),
        teachers=teacher or [],
        model=model,
        limit=limit,
        seed=seed,
        against=against or [],
        retry_failed=retry_failed,
    )
    if dry_run:
        command.dry_run()
    elif not (command.refilter() if refilter else command.run()):
        raise typer.Exit(1)
