"""Starts the ranks of a run, watches them, and goes on from the newest checkpoint where one died.

torchrun can start the same ranks, on several machines too. This launcher knows the exit codes of a run besides: it does
not begin again what a user must correct, and hands on "stopped, resume me". `start_here` starts ranks on this machine,
which talk over the loopback interface alone; `dist/ray.py` places them on a cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Protocol

from seethink.core.console import say
from seethink.core.exits import EXIT_OTHER_RANK, EXIT_RESUME, EXIT_WATCHDOG

FINAL = {0, 2, EXIT_RESUME, EXIT_WATCHDOG}
"""Exit codes that another start would not change."""
POLL_S = 0.1
LAST_WORDS = 4000
"""Characters printed of what a failed rank wrote."""
LAST_WORDS_S = 30.0
"""How long ranks may take to end by themselves after one of them died."""


class Process(Protocol):
    """One rank, as `subprocess.Popen` has it."""

    returncode: int | None

    def poll(self) -> int | None: ...
    def send_signal(self, number: int, /) -> None: ...


Start = Callable[[list[str], Path], Sequence[Process]]
"""Starts `seethink train WORDS` on every rank; all but rank 0 write to `output_of(folder, rank)`."""


@dataclass
class _Ranks:
    """The processes of one start."""

    processes: Sequence[Process]
    folder: Path
    """Where all but rank 0 write what they would print: it is what rank 0 prints, unless they fail alone."""
    first: tuple[int, int] | None = None
    """(rank, exit code) of the first that ended otherwise than well."""
    died_at: float = field(default=0.0)

    def watch(self, asked: Sequence[int]) -> int:
        """Wait for all; the exit code of the first cause. Every signal that comes to `asked` is handed on as SIGTERM."""
        handed_on = 0
        while any(process.poll() is None for process in self.processes):
            if len(asked) > handed_on:
                handed_on += 1
                self.signal(signal.SIGTERM)
            self._note()
            if self.first is not None and self.first[1] not in FINAL and time.monotonic() > self.died_at + LAST_WORDS_S:
                self.signal(signal.SIGKILL)
            time.sleep(POLL_S)
        self._note()
        return self.first[1] if self.first is not None else 0

    def _note(self) -> None:
        if self.first is not None and self.first[1] != EXIT_OTHER_RANK:
            return
        for number, process in enumerate(self.processes):
            code = process.poll()
            if code and (self.first is None or code != EXIT_OTHER_RANK):
                self.first, self.died_at = (number, code), self.died_at or time.monotonic()
                return

    def tell(self) -> None:
        """Print the last words of the rank that failed first, unless rank 0 ended the same way and has said it."""
        if self.first is None or self.processes[0].returncode == self.first[1]:
            return
        words = output_of(self.folder, self.first[0]).read_text(encoding="utf-8", errors="replace")
        sys.stderr.write(f"rank {self.first[0]}:\n{words[-LAST_WORDS:]}\n")

    def signal(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)


def launch(words: Sequence[str], start: Start, *, max_restarts: int) -> int:
    """Run `seethink train` with these words on the processes that `start` starts; returns the run's exit code.

    A run whose process crashed or was killed goes on from its newest checkpoint, at most `max_restarts` times.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for attempt in range(max_restarts + 1):
            with TemporaryDirectory(prefix="seethink-launch-") as meeting:
                again = ["--resume"] if attempt and "--resume" not in words else []
                ranks = _Ranks(start([*words, *again], Path(meeting)), Path(meeting))
                code = ranks.watch(asked)
                ranks.tell()
            if code in FINAL or asked or attempt == max_restarts:
                return _shell_code(code)
            assert ranks.first is not None
            say(
                f"rank {ranks.first[0]} ended with {_named(code)}: the run goes on from its newest checkpoint "
                f"(restart {attempt + 1} of {max_restarts})",
                "bold red",
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise AssertionError("a start either ends the run or is followed by another")


def output_of(folder: Path, rank: int) -> Path:
    """Where a rank's output is kept."""
    return folder / f"rank{rank}.txt"


def start_here(words: list[str], folder: Path, *, trainers: int) -> list[subprocess.Popen[bytes]]:
    """Start the ranks on this machine."""
    command = [sys.executable, "-m", "seethink", "train", *words]
    threads = str(max(1, (os.cpu_count() or 1) // trainers))
    shared: dict[str, Any] = {
        "WORLD_SIZE": str(trainers),
        "SEETHINK_RENDEZVOUS": str(folder / "store"),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }
    processes = []
    for number in range(trainers):
        own = {"RANK": str(number), "LOCAL_RANK": str(number)}
        with output_of(folder, number).open("wb") as output:
            stream = output if number else None
            processes.append(
                # Of a session of its own: Ctrl-C comes once, from here.
                subprocess.Popen(
                    command, env=os.environ | shared | own, stdout=stream, stderr=stream, start_new_session=True
                )
            )
    return processes


def _named(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _shell_code(code: int) -> int:
    """As a shell gives it: 128 and the signal's number."""
    return 128 - code if code < 0 else code
