"""The `seethink` command: its groups of commands, and what their endings mean to a shell."""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from seethink.cli import bench, coldstart, data, evaluate, lab, models, train, verifier, world
from seethink.core.console import console, make_streams_lenient
from seethink.core.errors import OtherRankError, UserError
from seethink.core.exits import EXIT_OTHER_RANK, EXIT_RESUME, EXIT_WATCHDOG, RunStopped, StoppedByWatchdog
from seethink.core.version import __version__

app = typer.Typer(
    help="Post-train vision-language models to reason: cold start, GRPO, connector tuning, and how to tell.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)
for group in (train.app, coldstart.app, evaluate.app, models.app, data.app):
    app.add_typer(group)
app.add_typer(world.app, name="world")
app.add_typer(verifier.app, name="verifier")
app.add_typer(lab.app, name="lab")
app.add_typer(bench.app, name="bench")


def _version(show: bool) -> None:
    if show:
        console.print(f"seethink {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def command() -> NoReturn:
    """The program `seethink`: `main`, and then an end at once.

    To free torch module by module takes the interpreter one to two seconds and gives the system nothing that it does
    not get anyway. Exit handlers still run; this one is registered before all others and so runs last.
    """
    code = None

    def end() -> None:
        if code is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    atexit.register(end)
    try:
        main()
    except SystemExit as ending:
        code = 0 if ending.code is None else ending.code if isinstance(ending.code, int) else None
        raise
    code = 0
    sys.exit(code)


def main() -> None:
    """Run the command line.

    A user's mistake is one line on stderr and exit code 2. A run that was stopped and saved ends with 75, a run that
    a watchdog stopped with 76.
    """
    let_waiting_threads_sleep()
    make_streams_lenient()
    try:
        app()
    except RunStopped as stopped:
        _last_word(str(stopped))
        sys.exit(EXIT_RESUME)
    except StoppedByWatchdog as stopped:
        _last_word(str(stopped))
        sys.exit(EXIT_WATCHDOG)
    except OtherRankError:
        sys.exit(EXIT_OTHER_RANK)  # that rank has said why
    except UserError as error:
        sys.stderr.write(f"error: {_printable(str(error))}\n")
        sys.exit(2)
    finally:
        _say_what_was_lost()


def _say_what_was_lost() -> None:
    """Once, at the end: while a run goes on, what it prints is worth less than the run."""
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is not None and not isinstance(failure, BrokenPipeError):
        sys.stderr.write(f"warning: what was printed is lost, in part or all of it: {failure}\n")


def _last_word(text: str) -> None:
    """Of a run that was stopped; of several processes the first says it."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"{_printable(text)}\n")


def let_waiting_threads_sleep() -> None:
    """Tell OpenMP how threads wait for work, unless the user has. Must run before torch is loaded, which reads it once.

    Threads that spin make a run many times slower as soon as another job takes one of its cores. Threads that sleep at
    once wait for the kernel at every small parallel operation. GNU's OpenMP, which torch uses on Linux, can check a
    thousand times first (docs/speed.md has the figures).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _printable(text: str) -> str:
    """Control characters escaped: data and recipes must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


if __name__ == "__main__":
    command()
