"""SIGTERM and Ctrl-C: finish the step or leave it, save, and exit with a code that says "resume me".

The first signal asks the run to stop after its step. Where the step takes longer than the grace time it is left:
nothing has changed before the optimizer steps, so that the state of the step before can still be saved. A second
Ctrl-C stops at once; the checkpoints that are complete stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from seethink.core.console import console

AGAIN_S = 5.0
"""Where code swallows the request to leave a step, it is made again."""


class StepAbandoned(BaseException):
    """Raised within a step whose grace time is over. Not an Exception: no `except Exception` may swallow it."""


class StopSignals:
    """While entered, in the main thread, SIGTERM and SIGINT set `asked`."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self.asked: str | None = None
        """The name of the signal, once there was one."""
        self._held = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGALRM: self._on_alarm}
            self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disarm()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing here is abandoned: saving, and the step of an optimizer."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self, *_: Any) -> None:
        self._held += 1

    def release(self, *_: Any) -> None:
        self._held -= 1

    def disarm(self) -> None:
        """The step is over, one way or the other."""
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = signal.Signals(number).name
        signal.setitimer(signal.ITIMER_REAL, max(self._grace_s, 1e-3), AGAIN_S)
        said = f"{self.asked}: stopping after this step, or in {self._grace_s:g} s without it; Ctrl-C stops at once\n"
        # Not through a buffered file: the signal may have come in the middle of a print.
        with contextlib.suppress(OSError):
            if not console.quiet:
                os.write(2, said.encode())

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if not self._held:
            raise StepAbandoned
