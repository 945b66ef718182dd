"""A chat template is a program that comes with a checkpoint: tried in a process that may be killed before it is used.

transformers runs it in Jinja's sandbox, which keeps it from files and attributes but not from looping or from taking
all memory, some of it in a single uninterruptible operation. So the first prompt is written by a copy of this process
with limits on CPU time and memory.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

from seethink.core.errors import UserError

CPU_SECONDS = 3
MEMORY = 512 << 20
"""Bytes beyond what the process has when it is copied."""
_TOO_LARGE = 3


class TemplateError(UserError):
    """A chat template that cannot be used; the message says what to do."""


def refuse_endless(render: Callable[[], object]) -> None:
    """Raises TemplateError where `render` does not end, or takes too much memory. Its own errors are not asked for.

    Linux only: elsewhere nothing is tried.
    """
    if not os.path.exists("/proc/self/statm"):
        return
    child = os.fork()
    if child == 0:
        os._exit(_try(render))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        what = "does not end" if os.WTERMSIG(status) == signal.SIGXCPU else f"ends the process ({os.WTERMSIG(status)})"
        raise TemplateError(f"the model's chat template {what} within {CPU_SECONDS} s; use that of the original model")
    if os.WEXITSTATUS(status) == _TOO_LARGE:
        raise TemplateError(f"the model's chat template takes over {MEMORY >> 20} MB; use that of the original model")


def _try(render: Callable[[], object]) -> int:
    """In the copy: the exit code. Nothing else of the parent may run here, so exceptions end in it too."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        spent = resource.getrusage(resource.RUSAGE_SELF)
        seconds = CPU_SECONDS + int(spent.ru_utime + spent.ru_stime)
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        render()
    except MemoryError:
        return _TOO_LARGE
    except BaseException:
        return 0
    return 0
