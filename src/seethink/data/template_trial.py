"""A process that renders one chat template and may be killed. `template.refuse_endless` starts it.

It reads `{"template", "variables", "cpu_seconds", "memory"}` as JSON and exits with ENDED or TOO_LARGE; the kernel
ends it when its CPU time is spent. It imports Jinja alone, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

ENDED, TOO_LARGE = 0, 3


class Generation(Extension):
    """`{% generation %}`, which marks the assistant's text: the body is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_rendered"), [], [], body).set_lineno(line)

    def _rendered(self, caller: Macro) -> str:
        return caller()


def environment() -> ImmutableSandboxedEnvironment:
    """The environment in which transformers renders chat templates."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = str
    return env


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def limit(cpu_seconds: int, memory: int) -> None:
    """Bound the CPU time, in seconds, and the memory, in bytes, that this process takes from now on."""
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = cpu_seconds + int(used.ru_utime + used.ru_stime)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))


def main() -> int:
    task = json.load(sys.stdin)
    try:
        limit(task["cpu_seconds"], task["memory"])
        environment().from_string(task["template"]).render(task["variables"])
    except MemoryError:
        return TOO_LARGE
    except Exception:  # a template that fails ends too; the first prompt says why it failed
        pass
    return ENDED


if __name__ == "__main__":
    sys.exit(main())
