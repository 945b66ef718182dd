"""A process that renders chat templates and may be killed. `template.refuse_endless` starts it.

It reads lines of JSON, `{"template", "variables", "cpu_seconds", "memory"}`, and answers each with a line once the
template has ended, well or with an error. It exits with TOO_LARGE where the memory does not do, and the kernel ends it
when the CPU time of the line is spent. It imports Jinja alone, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOO_LARGE = 3


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
    env.globals["strftime_now"] = _strftime_now
    return env


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=8)
def compiled(template: str) -> Template:
    return environment().from_string(template)


def limit(cpu_seconds: int, memory: int) -> None:
    """Bound the CPU time, in seconds, and the memory, in bytes, that this process takes from now on."""
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The limit counts whole seconds: one more keeps what was used before from shortening the time.
    _lower(resource.RLIMIT_CPU, 1 + cpu_seconds + int(used.ru_utime + used.ru_stime))
    _lower(resource.RLIMIT_AS, held + memory)


def _lower(kind: int, wanted: int) -> None:
    """Set the soft limit alone, which the next template may set anew."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def answer(line: str) -> None:
    """Render what a line asks for, within its limits. Raises MemoryError."""
    task = json.loads(line)
    limit(task["cpu_seconds"], task["memory"])
    try:
        compiled(task["template"]).render(task["variables"])
    except MemoryError:
        raise
    except Exception:  # a template that fails ends too; transformers says why it failed
        pass


def main() -> int:
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        try:
            answer(line)
        except MemoryError:
            return TOO_LARGE
        print("ended", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
