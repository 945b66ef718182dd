"""Work on what a loop makes, in a thread beside it: for work that another pass can do later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_REST = 49.0
"""Seconds of rest per second of processor time. Python runs one thread at a time: a loop that keeps a server busy
would wait for work that has no hurry, and what it waits is time in which places of the server stay empty."""


class Aside(Generic[T]):
    """Does `work` on what is added, for at most a fiftieth of a processor's time.

        with Aside(grade) as aside:
            for answers in ...:
                aside.add(answers)

    Where more is added than it gets to, what is beyond `most` is left out; what was added last may be left out too. An
    error in `work` is raised by the next `add`, or at the end of the block.
    """

    def __init__(self, work: Callable[[list[T]], object], most: int = 512) -> None:
        """`most`: of what is added, that wait for the work that is being done."""
        self._work, self._most = work, most
        self._waiting: list[T] = []
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(1, "aside")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait for the work that is being done; after an error in the block, which may be Ctrl-C, do not."""
        self._over.set()
        self._threads.shutdown(wait=kind is None, cancel_futures=kind is not None)
        if kind is None and self._running is not None:
            self._running.result()

    def add(self, found: Sequence[T]) -> None:
        self._waiting += found[: max(0, self._most - len(self._waiting))]
        if self._waiting and (self._running is None or self._running.done()):
            if self._running is not None:
                self._running.result()
            taken, self._waiting = self._waiting, []
            self._running = self._threads.submit(self._do, taken)

    def _do(self, taken: list[T]) -> None:
        before = time.thread_time()
        self._work(taken)
        self._over.wait(_REST * (time.thread_time() - before))
