"""Shared by all fuzz tests: how long they search, what counts as a side effect or a hang, and the stored inputs.

    python -m pytest tests/faults -k fuzz                            # seconds: a short search, and every stored input
    HYPOTHESIS_PROFILE=long python -m pytest tests/faults -k fuzz    # many minutes

The stored inputs are the files under tests/data/fuzz/KIND. The smallest input that breaks a property is written there
as `failed` and replayed from then on; rename it when the fault is fixed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

KEPT = Path(__file__).resolve().parents[1] / "data" / "fuzz"
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SECONDS = 5.0
"""CPU seconds that one input may take."""
WORKER = "seethink.rewards.grader.worker"
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect")
_STARTS += ("socket.getaddrinfo", "pickle.find_class", "webbrowser.open", "urllib.Request")
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate")

_watching: list[tuple[Path, bool]] = []
"""The folder in which files may change, and whether grader workers may start; empty outside of `harmless`."""


def fuzz(quick: int, long: int) -> settings:
    """Settings for `quick` examples, the same ones every time, or for `long` new ones in the long profile."""
    return settings(
        max_examples=long if LONG else quick,
        derandomize=not LONG,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink] if LONG else [Phase.explicit, Phase.generate],
    )


def kept(kind: str) -> list[Any]:
    """The stored inputs of a kind, as parameters of a replay test."""
    files = sorted((KEPT / kind).iterdir())
    assert files, f"{KEPT / kind} is empty"
    return [pytest.param(file.read_bytes(), id=file.name) for file in files]


@contextmanager
def keeping(kind: str, data: bytes) -> Iterator[None]:
    """Store `data` if the block raises; the last input of a shrinking search, the smallest, remains."""
    try:
        yield
    except BaseException:
        folder = KEPT / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed").write_bytes(data)
        raise


@contextmanager
def harmless(folder: Path, *, workers: bool = False) -> Iterator[None]:
    """Fail if the block hangs, starts a process, connects, unpickles, or changes a file outside `folder`.

    With `workers`, the grader may replace its worker processes.
    """
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    _watching.append((folder.resolve(), workers))
    try:
        yield
    finally:
        _watching.clear()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class SideEffectError(AssertionError):
    """The program did something that no input may make it do."""


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"over {SECONDS} CPU seconds, at\n{''.join(traceback.format_stack(frame)[-3:])}")


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in _STARTS and not (_watching[0][1] and WORKER in repr(args)):
        raise SideEffectError(f"{event}{args!r}")
    if (event == "open" and _writes(args)) or event in _CHANGES:
        path = args[0]
        inside = isinstance(path, str | bytes | os.PathLike) and _inside(Path(os.fsdecode(path)))
        if not inside:
            raise SideEffectError(f"{event}{args!r}")


def _writes(args: tuple[Any, ...]) -> bool:
    path, mode, flags = args
    changing = any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))
    return changing and not isinstance(path, int) and "__pycache__" not in os.fsdecode(path)


def _inside(path: Path) -> bool:
    return path.resolve().is_relative_to(_watching[0][0]) or str(path) == os.devnull


sys.addaudithook(_audit)
