"""A chat template is a program that comes with a checkpoint: another process tries each prompt before this one does.

transformers renders it in Jinja's sandbox, which keeps it from files and attributes but not from looping or from taking
all memory, some of it in a single operation that nothing can interrupt. So a small process renders every prompt first,
with limits on CPU time and memory (`template_trial.py`); it is started once and takes a fraction of a millisecond for
each prompt. Trying one prompt alone would not do: a template can recognise it, and loop for the others.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.data.template_trial import TOO_LARGE

CPU_SECONDS = 3
MEMORY = 512 << 20
"""Bytes, beyond the memory of the Jinja library."""
WALL_SECONDS = 60.0
"""For a template that waits instead of computing, and for machines without limits on CPU time."""
_TRIAL = Path(__file__).with_name("template_trial.py")


class TemplateError(UserError):
    """A chat template that cannot be used; the message says what to do."""


def refuse_endless(template: str, variables: Mapping[str, Any]) -> None:
    """Raises TemplateError where rendering does not end, or takes too much memory.

    `variables` are those of one prompt, as transformers hands them to the template; they must be JSON. The template's
    own errors are not reported: transformers reports them. Linux only: elsewhere nothing is tried.
    """
    if Path("/proc/self/statm").exists():
        limits = {"cpu_seconds": CPU_SECONDS, "memory": MEMORY}
        _renderer.try_out(template, json.dumps({"template": template, "variables": dict(variables), **limits}))


class _Renderer:
    """The process that tries templates, for all threads of this one. A template that failed is not tried again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._refused: dict[str, str] = {}

    def try_out(self, template: str, task: str) -> None:
        with self._lock:
            problem = self._refused.get(template) or self._problem(task)
            if problem is not None:
                self._refused[template] = problem
                raise TemplateError(problem)

    def close(self) -> None:
        """End the process, which otherwise ends with this one."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def _problem(self, task: str) -> str | None:
        """What is wrong with the template; None where it ended. A process that something else ended is replaced."""
        for _ in range(2):
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended, which its exit code explains
                process.stdin.write(task.encode("ascii") + b"\n")
                process.stdin.flush()
            if not select.select([process.stdout], [], [], WALL_SECONDS)[0]:
                self.close()
                return _refused(f"does not end within {WALL_SECONDS:.0f} s")
            if process.stdout.readline():
                return None
            code = process.wait()
            self.close()
            if code in (TOO_LARGE, -signal.SIGXCPU, -signal.SIGKILL):
                break
        return _explained(code)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():
            # -P keeps the folder of the trial off the path, whose modules bear names of the standard library. In a
            # session of its own, Ctrl-C does not reach it: the run that is stopped may still need a prompt.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_TRIAL)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            self._owner = os.getpid()
        return self._process


_renderer = _Renderer()
atexit.register(_renderer.close)


def _explained(code: int) -> str:
    if code == TOO_LARGE:
        return _refused(f"takes over {MEMORY >> 20} MB")
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return _refused(f"does not end within {CPU_SECONDS} s")
    if code < 0:
        return _refused(f"ends the process that renders it (signal {-code})")
    return f"the model's chat template could not be tried: {sys.executable} {_TRIAL} failed; it needs jinja2"


def _refused(what: str) -> str:
    return f"the model's chat template {what}; use the template of the original model"
