"""Training runs in processes of their own that can be killed anywhere. Run as a script, it is the server.

Importing torch and transformers takes seconds, so one process imports them once and forks for every run. The server has
one thread and computes nothing itself. `_patched` lengthens saves and makes a run report what it is doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    status: int
    """Exit code, or the negative number of the signal."""
    place: str
    """What it reported last: `start`, `update N`, `logged N`, `saving NAME`, `syncing NAME`
    or `saved NAME`."""
    seconds: float
    """From its start to its end."""
    loaded: float
    """From its start to its first update."""
    output: str


@dataclass
class Request:
    """One run, which receives the signal `number` after `after` seconds or when it reports `at`."""

    recipe: Path
    resume: bool = False
    allow: list[str] = field(default_factory=list)
    after: float | None = None
    at: str | None = None
    later: float = 0.0
    """Seconds between the report of `at` and the signal."""
    number: int = signal.SIGKILL
    again_after: float | None = None
    """Seconds between the first signal and a second one."""
    slow_save: float = 0.0
    """Seconds by which every save is lengthened, half before and half after its rename."""
    patch: str | None = None
    """`module:function` called in the run's process before it starts."""


class ForkServer:
    """`with ForkServer() as server: server.run(Request(...))`."""

    def __enter__(self) -> Self:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        given = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parents[1]), given]).rstrip(
            os.pathsep
        )
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def run(self, request: Request) -> Ended:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request.__dict__ | {"recipe": str(request.recipe)}) + "\n")
        self._process.stdin.flush()
        return Ended(**self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


def _serve() -> None:
    import torch

    import seethink.report
    import seethink.studies.lab.warm
    import seethink.studies.quickstart

    assert seethink.report
    assert seethink.studies.lab.warm
    assert seethink.studies.quickstart
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        table = json.loads(line)
        request = Request(**table | {"recipe": Path(table["recipe"])})
        print(json.dumps(_fork(request).__dict__), file=answers, flush=True)


def _fork(request: Request) -> Ended:
    log = request.recipe.with_suffix(".log")
    places, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(places)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os._exit(_child(request, said))
    os.close(said)
    started, first, loaded = time.monotonic(), None, 0.0
    place, buffer = "start", b""
    due: list[float] = []
    while True:
        if not due and first is None and _is_time(request, place, started):
            first = time.monotonic() + request.later
            due = [first] + ([first + request.again_after] if request.again_after is not None else [])
        while due and time.monotonic() >= due[0]:
            due.pop(0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, request.number)
        if select.select([places], [], [], 0.002)[0]:
            chunk = os.read(places, 65536)
            if not chunk:
                break
            buffer += chunk
            *whole, buffer = buffer.split(b"\n")
            loaded = loaded or time.monotonic() - started
            place = whole[-1].decode() if whole else place
            # A place that the run has entered and left within one read counts as well.
            if request.at is not None and request.at in [w.decode() for w in whole] and first is None:
                place = request.at
    os.close(places)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(status, place, time.monotonic() - started, loaded, log.read_text(errors="replace"))


def _is_time(request: Request, place: str, started: float) -> bool:
    if request.at is not None:
        return place == request.at
    return request.after is not None and time.monotonic() - started >= request.after


def _child(request: Request, said: int) -> int:
    import importlib
    import traceback

    from seethink.cli.main import main

    try:
        if request.patch is not None:
            module, _, name = request.patch.partition(":")
            getattr(importlib.import_module(module), name)()
        _patched(request, said)
        sys.argv = ["seethink", "train", str(request.recipe), *(["--resume"] if request.resume else [])]
        for key in request.allow:
            sys.argv += ["--allow", key]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        _flush()
        return code
    except BaseException:
        traceback.print_exc()
        _flush()
        return 1
    _flush()
    return 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _patched(request: Request, said: int) -> None:
    """Make the run report what it is doing, and lengthen its saves."""
    from seethink.runs import checkpoint
    from seethink.runs.metrics import MetricsWriter
    from seethink.train.grpo import Grpo
    from seethink.train.memory import TokenBudget
    from seethink.train.sft import Sft

    def say(place: str) -> None:
        os.write(said, f"{place}\n".encode())

    write, in_one_move, hash_files = MetricsWriter.write, checkpoint.in_one_move, checkpoint.write_manifest
    update, steps = TokenBudget.run, {stage: stage.step for stage in (Grpo, Sft)}
    number = 0

    def write_and_say(self: Any, step: int, metrics: dict[str, float]) -> None:
        write(self, step, metrics)
        say(f"logged {step}")

    def count_and_step(self: Any, step: int) -> Any:
        nonlocal number
        number = step + 1
        return steps[type(self)](self, step)

    def update_and_say(self: Any, *args: Any, **kwargs: Any) -> Any:
        say(f"update {number}")
        return update(self, *args, **kwargs)

    @contextlib.contextmanager
    def move_and_say(final: Path, *args: Any, **kwargs: Any) -> Iterator[Path]:
        say(f"saving {final.name}")
        with in_one_move(final, *args, **kwargs) as temporary:
            yield temporary
        time.sleep(request.slow_save / 2)
        say(f"saved {final.name}")

    def hash_slowly(folder: Path) -> None:
        say(f"syncing {folder.name}")
        time.sleep(request.slow_save / 2)
        hash_files(folder)

    MetricsWriter.write = write_and_say  # type: ignore[method-assign]
    checkpoint.in_one_move = move_and_say
    checkpoint.write_manifest = hash_slowly
    Grpo.step = Sft.step = count_and_step  # type: ignore[method-assign, assignment]
    TokenBudget.run = update_and_say  # type: ignore[method-assign]


if __name__ == "__main__":
    _serve()
