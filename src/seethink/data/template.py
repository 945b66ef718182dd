"""A chat template is a program that comes with a checkpoint: another process tries it before this one uses it.

transformers renders it in Jinja's sandbox, which keeps it from files and attributes but not from looping or from taking
all memory, some of it in a single operation that nothing can interrupt. So a short-lived process renders a trial
prompt first, with limits on CPU time and memory (`template_trial.py`).

The trial cannot tell what the template does with other prompts: a template that recognises the trial, or that loops for
certain texts alone, passes it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
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

    `variables` are those of the trial prompt, as transformers would hand them to the template; they must be JSON. The
    template's own errors are not reported: the first prompt reports them. Linux only: elsewhere nothing is tried.
    """
    if Path("/proc/self/statm").exists():
        _refuse_endless(template, json.dumps(dict(variables), sort_keys=True))


@lru_cache(maxsize=64)
def _refuse_endless(template: str, variables: str) -> None:
    """A template that has passed is not tried again by this process."""
    limits = {"cpu_seconds": CPU_SECONDS, "memory": MEMORY}
    task = {"template": template, "variables": json.loads(variables), **limits}
    try:
        # -P keeps the folder of the trial off the path, whose modules bear names of the standard library.
        done = subprocess.run(
            [sys.executable, "-P", str(_TRIAL)],
            input=json.dumps(task).encode("ascii"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=WALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"does not end within {WALL_SECONDS:.0f} s") from None
    if done.returncode == TOO_LARGE:
        raise _refused(f"takes over {MEMORY >> 20} MB")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _refused(f"does not end within {CPU_SECONDS} s")
    if done.returncode < 0:
        raise _refused(f"ends the process that renders it (signal {-done.returncode})")
    if done.returncode:
        raise TemplateError(
            f"the model's chat template could not be tried: {sys.executable} {_TRIAL} failed; it needs jinja2"
        )


def _refused(what: str) -> TemplateError:
    return TemplateError(f"the model's chat template {what}; use the template of the original model")
