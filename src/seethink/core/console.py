"""Progress bars with ETA; silent where the output is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=False)

Advance = Callable[[int, str], None]
"""(steps done since the last call, a short status)."""


@contextmanager
def progress_bar(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done, status="")
        yield lambda count, status: bar.update(task, advance=count, status=status)


def say(line: str, style: str | None = None) -> None:
    """Print one line as it stands: no markup in it is read, and no width folds it."""
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
