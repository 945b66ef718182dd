"""Lines and progress bars for people. Printing never ends a run: what cannot be printed is lost, and that is all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class LenientStream:
    """A text stream that takes what it cannot write without an error: the disk is full, the reader of a pipe has gone,
    or the encoding has no such character."""

    def __init__(self, stream: Callable[[], TextIO | None]) -> None:
        """`stream` gives the stream as it is when something is written; None where the process has none."""
        self._stream = stream
        self.failure: Exception | None = None
        """Why something was lost."""

    def write(self, text: str) -> int:
        stream = self._stream()
        if stream is not None:
            try:
                try:
                    stream.write(text)
                except UnicodeEncodeError:
                    encoding = stream.encoding or "ascii"
                    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self.failure = error
        return len(text)

    def flush(self) -> None:
        stream = self._stream()
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self.failure = error

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        stream = self._stream()
        return stream is not None and stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)


def _stdout() -> TextIO | None:
    # While a progress bar is shown, rich puts a stream of its own in the place of stdout, which prints to the console.
    return cast("TextIO | None", getattr(sys.stdout, "rich_proxied_file", sys.stdout))


console = Console(file=cast(TextIO, LenientStream(_stdout)))

Advance = Callable[[int, str], None]
"""(steps done since the last call, a short status)."""


def make_streams_lenient() -> None:
    """Let nothing that this process prints end it: for a command line, whose libraries print as well."""
    sys.stdout, sys.stderr = _lenient(sys.stdout), _lenient(sys.stderr)


def _lenient(stream: TextIO | None) -> TextIO:
    return cast(TextIO, stream if isinstance(stream, LenientStream) else LenientStream(lambda: stream))


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
