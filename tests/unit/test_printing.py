"""Printing never ends a run: full disks, readers that have gone, closed streams, characters that nobody can write."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.command_line import run_command
from seethink.core.console import LenientStream, console, make_streams_lenient, progress_bar, say

FULL = OSError(errno.ENOSPC, "No space left on device")
LINE = "from \ud83d to \u202e"


class Broken(io.StringIO):
    """A stream that fails as a device does."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def ascii_only() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


STREAMS = {
    "a full disk": lambda: Broken(FULL),
    "a broken pipe": lambda: Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "a lost terminal": lambda: Broken(OSError(errno.EIO, "Input/output error")),
    "closed": closed,
    "none": lambda: None,
    "ASCII": ascii_only,
}


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch:
        yield patch


@pytest.mark.parametrize("lenient", [False, True], ids=["in a library's user's script", "on the command line"])
@pytest.mark.parametrize("name", STREAMS)
def test_what_cannot_be_printed_is_lost(streams: pytest.MonkeyPatch, name: str, lenient: bool) -> None:
    streams.setattr(sys, "stdout", STREAMS[name]())
    streams.setattr(sys, "stderr", STREAMS[name]())
    if lenient:
        make_streams_lenient()
        print(LINE, flush=True)
        sys.stderr.write(LINE)
        sys.stderr.writelines([LINE])
    say(LINE, "yellow")
    console.print(LINE)
    console.rule("x")
    console.print_json(data={"a": LINE})
    with progress_bar("x", 2) as advance:
        advance(1, LINE)


def test_what_can_be_printed_is_printed(streams: pytest.MonkeyPatch) -> None:
    """The characters that an encoding lacks are spelled out."""
    stream = ascii_only()
    streams.setattr(sys, "stdout", stream)
    say("müde")
    stream.flush()
    assert stream.buffer.getvalue() == b"m\\xfcde\n"  # type: ignore[attr-defined]


def test_a_progress_bar_that_fails_midway(streams: pytest.MonkeyPatch) -> None:
    """On a terminal, rich puts its own stream in the place of stdout for as long as the bar is there."""
    stream = Broken(FULL)
    streams.setattr(stream, "isatty", lambda: True)
    streams.setattr(sys, "stdout", stream)
    streams.setattr(console, "_force_terminal", True, raising=False)
    with progress_bar("x", 2) as advance:
        print("from a reward function")
        advance(1, "")
        say("a warning")
    assert sys.stdout is stream


def test_what_was_lost_is_said_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, on stderr; a pipe whose reader has gone is nothing to speak of."""
    stream = LenientStream(lambda: Broken(FULL))
    stream.write("x")
    assert stream.failure is FULL
    monkeypatch.setattr("seethink.cli.main.make_streams_lenient", lambda: monkeypatch.setattr(sys, "stdout", stream))
    ended = run_command("--version")
    assert ended.returncode == 0
    assert (
        ended.stderr == "warning: what was printed is lost, in part or all of it: [Errno 28] No space left on device\n"
    )
    stream.failure = BrokenPipeError()
    monkeypatch.setattr(stream, "_stream", lambda: None)
    assert run_command("--version").stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("target", ["/dev/full", "closed", "a pipe without a reader"])
def test_a_process_ends_as_it_would_have(target: str) -> None:
    """The interpreter flushes stdout once more at its end, and would make an exit code of 120 of a failure."""
    code = "from seethink.cli.main import command; command()"
    command = [sys.executable, "-c", code, "--version"]
    stdout: int | None = None
    if target == "closed":
        command = ["sh", "-c", '"$0" "$@" >&-', *command]
    elif target == "/dev/full":
        stdout = os.open(target, os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    if stdout is not None:
        os.close(stdout)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ("No space left on device" in ended.stderr) == (target == "/dev/full")


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(75)", 75), ("pass", 0), ("sys.exit('a word')", 1), ("raise KeyError", 1)]
)
def test_an_end_at_once_keeps_the_code_what_was_printed_and_exit_handlers(ending: str, code: int) -> None:
    lines = [
        "import atexit, sys, seethink.cli.main as cli",
        "def main():",
        "    atexit.register(print, 'a handler')",
        "    print('printed')",
        f"    {ending}",
        "cli.main = main",
        "cli.command()",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "\n".join(lines)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout) == (code, "printed\na handler\n")
    assert ("KeyError" in ended.stderr, "a word" in ended.stderr) == ("Key" in ending, "word" in ending)
