"""One run per folder. The kernel holds the lock for the process, so that a killed run never leaves one behind."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.runs.reading import RunFileError, read_object

FILE = ".lock"


class FolderInUseError(UserError):
    """Another run writes to the folder; the message says which."""


class FolderLock:
    """`with FolderLock(folder):` makes the folder and keeps every other run out of it. Raises FolderInUseError."""

    def __init__(self, folder: Path, option: str = "out=") -> None:
        """`option` is how the user named the folder, for messages."""
        self._folder, self._option = folder, option
        # Of the process, not of the thread: a run may end in another thread than it began in.
        self._lock = FileLock(folder / FILE, timeout=0, thread_local=False)

    def __enter__(self) -> Self:
        self._make_folder()
        if not is_lock(self._folder / FILE):
            raise UserError(
                f"{self._folder / FILE} is not a lock of seethink and stays as it is; choose another folder, or move "
                "it away"
            )
        owner = _owner(self._folder / FILE)
        try:
            self._lock.acquire()
        except Timeout:
            raise FolderInUseError(
                f"{self._folder} is in use by another run ({owner}); wait for it, stop it, or choose another out"
            ) from None
        except (OSError, NotImplementedError) as error:  # a file system without locks
            say(f"{self._folder} cannot be locked ({error}): make sure that no other run uses it", "yellow")
        self._sign()
        return self

    def _make_folder(self) -> None:
        named = f"{self._option}{str(self._folder)!r}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UserError(f"{named} is a file; choose a folder") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{named} cannot be made: {error}; choose another folder") from None

    def _sign(self) -> None:
        """For people: the lock itself is the kernel's, and this text may be that of a dead process."""
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": " ".join(Path(sys.argv[0]).name.split()) if sys.argv else "",
        }
        try:
            (self._folder / FILE).write_text(json.dumps(about) + "\n", encoding="utf-8")
        except OSError:  # a full disk must not stop a run that only wants to resume
            return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def is_lock(file: Path) -> bool:
    """Whether a file may be the lock of a run, dead or alive: nothing else of that name is written to."""
    try:
        return not file.exists() or file.stat().st_size == 0 or "pid" in read_object(file)
    except (OSError, RunFileError):
        return False


def _owner(file: Path) -> str:
    try:
        about = read_object(file)
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (RunFileError, LookupError):
        return "its process is not known"
