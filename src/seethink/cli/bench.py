"""`seethink bench`: the benchmarks and their data; and what `seethink eval --bench` does with its options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.exits import RunStopped
from seethink.core.redact import visible

if TYPE_CHECKING:
    from seethink.config import ToolConfig
    from seethink.config.endpoint import EndpointConfig
    from seethink.eval.bench.generations import Settings

app = typer.Typer(help="The benchmarks of the paper's table and their data.", no_args_is_help=True)

EXIT_UNSCORED = 1


@app.command("list", epilog="Example: `seethink bench list --data benchmarks`")
def list_(
    data: Annotated[Path | None, typer.Option(help="Folder of the data; default: SEETHINK_BENCH.")] = None,
) -> None:
    """Every benchmark: what it is, its size and licence, the paper's figure, and where its data are found."""
    from seethink.studies.benchmarks.inspection import list_lines

    for line in list_lines(data):
        say(visible(line))


@app.command("check", epilog="Example: `seethink bench check logicvista --data benchmarks/logicvista`")
def check(
    name: Annotated[str, typer.Argument(help="A name of `seethink bench list`.")],
    data: Annotated[Path, typer.Option(help="Folder of the data, or the file itself.")],
    download: Annotated[bool, typer.Option("--download", help="Fetch absent data from the hub.")] = False,
) -> None:
    """Load everything, count it against what is expected, and grade every gold against itself."""
    from seethink.eval.bench.download import download as fetch
    from seethink.studies.benchmarks.command import listed
    from seethink.studies.benchmarks.inspection import check as check_data

    if download:
        fetch(listed(name), data)
    found = check_data(listed(name), data)
    for line in found.lines:
        say(visible(line))
    for line in found.failures:
        say(visible(f"not graded right against itself: {line}"), "yellow")
    say(
        f"{len(found.failures)} golds beyond the known bad rows are not graded right",
        "yellow" if found.failures else "green",
    )
    if found.failures:
        raise typer.Exit(EXIT_UNSCORED)


@app.command("export", epilog="Example: `seethink bench export evals/mine --to vlmevalkit --out tables`")
def export(
    folder: Annotated[Path, typer.Argument(help="An --out folder of `seethink eval --bench`.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; it must not exist or be empty.")],
    to: Annotated[str, typer.Option(help="vlmevalkit (TSV and Excel tables) or inspect (inspect_ai's logs).")],
) -> None:
    """Write stored answers and grades as another harness's files, to compare with its own."""
    from seethink.core.errors import as_user_error
    from seethink.core.files import refuse_full_folder
    from seethink.eval.bench.results import read_results
    from seethink.export.benchmarks.inspect_log import export_inspect
    from seethink.export.benchmarks.vlmevalkit import export_vlmevalkit

    writers = {"vlmevalkit": export_vlmevalkit, "inspect": export_inspect}
    if to not in writers:
        raise UserError(f"--to: expected {' or '.join(writers)}, found {to!r}")
    refuse_full_folder(out)
    results = read_results(folder, "FOLDER")
    for score in results.scores.values():
        if score.unscored:
            say(f"{score.name}: {score.unscored:,} answers are missing or have no score", "yellow")
    for path in as_user_error(lambda: writers[to](results, out)):
        say(visible(str(path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """The options of `seethink eval` that are about benchmarks, as they were given."""

    bench: str | None
    protocol: str
    runs: int | None
    temperature: float | None
    max_new_tokens: int | None
    limit: int | None
    seed: int
    data: str | None
    out: Path | None
    server: str | None
    served_model: str | None
    api_key_env: str | None
    concurrency: int
    requests_per_minute: float | None
    timeout_s: float
    blind: bool
    count_refused: bool
    regrade: bool
    download: bool
    tools: ToolConfig


def evaluate_benchmarks(model: str | None, options: BenchOptions, words: list[str]) -> None:
    """`seethink eval --bench`. Exits with 1 where too many answers have no score."""
    from seethink.config import make_reading, make_reward
    from seethink.eval.tasks.registry import chosen
    from seethink.studies.benchmarks.command import BenchCommand, unscored

    server = _endpoint(options)
    command = BenchCommand(
        benchmarks=chosen(options.bench or ""),
        settings=_settings(options),
        out=options.out or Path("evals") / _label(model, options),
        data=Path(options.data) if options.data is not None else None,
        model=model,
        server=server,
        limit=options.limit,
        counts_refused=options.count_refused,
        download=options.download,
        tools=options.tools,
        reward=make_reward(words),
        reading=make_reading(words),
    )
    try:
        scores = command.regrade() if options.regrade else command.run()
    except KeyboardInterrupt:
        raise RunStopped("stopped; the answers so far are stored, and the same command goes on from here") from None
    if bad := unscored(scores):
        say(f"more than 1% of the answers have no score: {bad}", "red")
        raise typer.Exit(EXIT_UNSCORED)


def _settings(options: BenchOptions) -> Settings:
    from seethink.eval.bench.generations import PROTOCOLS

    if options.protocol not in PROTOCOLS:
        raise UserError(f"--protocol: expected {' or '.join(PROTOCOLS)}, found {options.protocol!r}")
    settings = replace(PROTOCOLS[options.protocol], seed=options.seed)
    given: dict[str, Any] = {
        "runs": options.runs,
        "temperature": options.temperature,
        "max_new_tokens": options.max_new_tokens,
        "blind": options.blind or None,
    }
    changed = {name: value for name, value in given.items() if value not in (None, getattr(settings, name))}
    if not changed:
        return settings
    said = ", ".join(f"{name}={value}" for name, value in changed.items())
    return replace(settings, protocol=f"{options.protocol} with {said}", **changed)


def _label(model: str | None, options: BenchOptions) -> str:
    name = model or options.served_model
    if not name:
        raise UserError("expected a MODEL, or --server URL with --model NAME; for --regrade the folder as --out")
    return Path(name.rstrip("/")).name


def _endpoint(options: BenchOptions) -> EndpointConfig | None:
    if options.server is None:
        return None
    if not options.served_model:
        raise UserError("--server needs --model NAME: the model as the server knows it")
    from pydantic import ValidationError

    from seethink.config.endpoint import EndpointConfig

    try:
        return EndpointConfig(
            base_url=options.server, model=options.served_model, api_key_env=options.api_key_env,
            max_concurrency=options.concurrency, requests_per_minute=options.requests_per_minute,
            call_timeout_s=options.timeout_s,
        )  # fmt: skip
    except ValidationError as error:
        said = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        raise UserError(f"--server: {said}") from None
