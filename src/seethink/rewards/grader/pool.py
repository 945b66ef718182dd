"""Runs symbolic work in processes that can be killed, because nothing else can stop it.

A task has two seconds of processor time, after which the kernel ends its worker: a machine that is busy, stopped or
asleep takes nothing from a task. One that gives no answer within a minute by the clock is tried once more. The pool
starts workers when they are first needed, serves any thread, is closed at exit, and is made anew in a forked child.

pebble and concurrent.futures start workers through multiprocessing, which runs the caller's main module in each of
them (a script without a main guard breaks the pool) and returns answers as pickles; a busy worker of pebble outlives a
killed parent. Here a worker imports sympy alone, and only lines of JSON come back from work on untrusted text.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from seethink.core.redact import is_secret_name

DEADLINE = 2.0
"""Seconds of processor time for a task."""
PATIENCE = 60.0
"""Seconds by the clock to wait for an answer, or for a worker to start."""
TASKS_PER_WORKER = 500
WORKERS = 4
"""More than the cores of a small machine: a worker that runs into its deadline must not hold up the rest."""


Tree = list[Any]
"""An expression as the JSON that `worker.build` reads."""


class PoolError(RuntimeError):
    """The work could not be done; the message says why. The grade becomes `error` and is masked."""


class _DiedError(Exception):
    """The worker ended by itself or was killed from outside."""


class _SilentError(Exception):
    """The worker gave no answer, though it did not use up its processor time."""


class _Worker:
    """One running process. Its methods raise TimeoutError, _DiedError and _SilentError."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
        environment = {name: value for name, value in os.environ.items() if not is_secret_name(name)}
        environment["OMP_NUM_THREADS"] = "1"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.tasks = 0
        self.receive(PATIENCE)

    def ask(self, task: dict[str, Any], deadline: float, patience: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.tasks += 1
        try:
            self.process.stdin.write(json.dumps(task | {"seconds": deadline}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise _DiedError from None
        return self.receive(patience)

    def receive(self, patience: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        end = time.monotonic() + patience
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                self.kill()
                raise _SilentError
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise TimeoutError if self.process.wait() == -signal.SIGPROF else _DiedError
            line += chunk
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Pool:
    """At most `workers` processes; `equal` blocks until one is free and has answered."""

    def __init__(self, workers: int = WORKERS, deadline: float = DEADLINE, patience: float = PATIENCE) -> None:
        self.deadline, self.patience = deadline, patience
        self.counts: Counter[str] = Counter()
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._places.put(None)
        self._alive: set[_Worker] = set()

    def equal(self, gold: Tree, found: Tree) -> bool:
        """Whether two expressions are equal. Raises PoolError where no worker could tell."""
        task = {"gold": gold, "found": found}
        for attempt in ("first", "second"):
            try:
                answer = self._run(task)
            except TimeoutError:  # the same work would take the same time again, so there's no second try
                self.counts["grader_timeout"] += 1
                raise PoolError(
                    f"grader_timeout: symbolic work took more than {self.deadline:g} s of processor time"
                ) from None
            except (_DiedError, _SilentError) as problem:
                died = isinstance(problem, _DiedError)
                self.counts["worker_died" if died else "worker_silent"] += 1
                if attempt == "second":
                    said = "worker_died: the worker process ended" if died else "worker_silent: no worker answered"
                    raise PoolError(f"{said} twice on this answer") from None
                continue
            if "equal" in answer:
                return bool(answer["equal"])
            raise PoolError(f"symbolic work failed: {answer.get('problem')}")
        raise AssertionError("unreachable")

    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.process.pid for worker in list(self._alive)]

    def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        worker = self._places.get()
        try:
            if worker is None:
                worker = _Worker()
                self._alive.add(worker)
            answer = worker.ask(task, self.deadline, self.patience)
            if worker.tasks >= TASKS_PER_WORKER:
                self._drop(worker)
                worker = None
            return answer
        except BaseException:
            if worker is not None:
                self._drop(worker)
                worker = None
            raise
        finally:
            self._places.put(worker)

    def _drop(self, worker: _Worker) -> None:
        self._alive.discard(worker)
        worker.kill()

    def close(self) -> None:
        """Kill all workers."""
        for worker in list(self._alive):
            self._drop(worker)


_lock = threading.Lock()
_pool: Pool | None = None
_abandoned: list[Pool] = []


def get_pool() -> Pool:
    """The pool of this process."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool()
        return _pool


def close_pool() -> None:
    """Kill the workers of this process; the next call of `get_pool` makes a new pool."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _after_fork() -> None:
    """The parent's workers stay the parent's: keep the objects, so that nothing here closes or kills them."""
    global _pool, _lock
    _lock = threading.Lock()
    if _pool is not None:
        _abandoned.append(_pool)
    _pool = None


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_pool)
