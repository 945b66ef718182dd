"""The `seethink` command inside the test's process: what a user types, without the seconds that torch takes to load."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch


@dataclass(frozen=True)
class Finished:
    """What a command left behind; the names are those of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*words: str, cwd: Path | None = None) -> Finished:
    """Run `seethink WORDS` in the folder `cwd`, on a terminal of 160 columns without colours.

    An exception that the command's entry point does not turn into an exit code is raised.
    """
    from seethink.cli.main import main

    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["seethink", *words]),
        patch.dict(os.environ, COLUMNS="160", NO_COLOR="1"),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Finished(code, stdout.getvalue(), stderr.getvalue())
