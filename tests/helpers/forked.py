"""`python` commands in processes forked from the test's own, which has torch and transformers loaded.

A new interpreter takes many seconds to load them. `run` and `start` stand in for `subprocess.run` and
`subprocess.Popen` of `[sys.executable, "-c" | "-m" | FILE, ...]`; what needs a clean interpreter stays with those.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import NoReturn

import torch


class Forked:
    """A running command; the names are those of `subprocess.Popen`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None) -> None:
        self.args = [str(word) for word in command]
        assert self.args[0] == sys.executable
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(self.args[1:], [file.fileno() for file in self._files], env, cwd)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + (timeout or 600)
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout or 600)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def output(self) -> subprocess.CompletedProcess[str]:
        """What it wrote, when it has ended."""
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        assert self.returncode is not None
        return subprocess.CompletedProcess(self.args, self.returncode, *texts)


def start(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Forked:
    """Begin a command. `env` is its whole environment; what torch reads when it is imported is read already."""
    return Forked(command, env, cwd)


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """A command to its end, or killed after `timeout` seconds: then raises subprocess.TimeoutExpired."""
    process = Forked(command, env, cwd)
    try:
        process.wait(timeout)
    finally:
        process.send_signal(signal.SIGKILL)
    return process.output()


def _become(words: list[str], outputs: list[int], env: Mapping[str, str] | None, cwd: Path | None) -> NoReturn:
    """The forked process: never returns into the test."""
    code = 1
    try:
        gc.freeze()
        forkserver._forkserver.__init__()  # type: ignore[misc]  # the test's server of forks is no child here
        torch.set_num_threads(1)  # makes torch's thread pool anew, before threads that load weights look for it
        for number, file in enumerate(outputs, start=1):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        if cwd is not None:
            os.chdir(cwd)
        code = _execute(words)
        threading._shutdown()  # type: ignore[attr-defined]
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _execute(words: list[str]) -> int:
    """The exit code that the interpreter would give."""
    how, *rest = words
    try:
        if how == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<command>", "exec"), {"__name__": "__main__"})
        elif how == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(how, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
