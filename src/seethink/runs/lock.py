"""One run a folder. The kernel holds the lock for the process, so that a killed run never leaves one behind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from seethink.core.console import say
from seethink.core.errors import UserError

FILE = ".lock"


class FolderInUseError(UserError):
    """Another run writes to the folder; the message says which."""


class FolderLock:
    """`with FolderLock(folder):` makes the folder and keeps every other run out of it. Raises FolderInUseError."""

    def __init__(self, folder: Path, option: str = "out=") -> None:
        """`option` is how the user named the folder, for messages."""
        self._folder, self._option = folder, option
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise UserError(f"{self._option}{str(self._folder)!r} is a file; choose a folder") from None
        except OSError as error:
            raise UserError(
                f"{self._option}{str(self._folder)!r} cannot be made: {error}; choose another folder"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._refused(descriptor, error)
        self._descriptor = descriptor
        self._sign(descriptor)
        return self

    def _refused(self, descriptor: int, error: OSError) -> None:
        """Somebody else holds it, or the file system knows no locks: then the run goes on unguarded and says so."""
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            said = f"{self._folder} cannot be locked ({error}): make sure that no other run uses it"
            say(said, "yellow")
            return
        owner = _owner(descriptor)
        os.close(descriptor)
        raise FolderInUseError(
            f"{self._folder} is in use by another run ({owner}); wait for it, stop it, or choose another out"
        ) from None

    def _sign(self, descriptor: int) -> None:
        """For people: the lock itself is the kernel's, and this text may be that of a dead process."""
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": " ".join(Path(sys.argv[0]).name.split()) if sys.argv else "",
        }
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(about) + "\n").encode(), 0)
        except OSError:  # a full disk must not stop a run that only wants to resume
            return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a name that a second one still waits on.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _owner(descriptor: int) -> str:
    try:
        about = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "its process is not known"
