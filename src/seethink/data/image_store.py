"""Keeps encoded images that are no files of their own (Parquet, base64): up to a bound in memory, then in a file.

The file has no name and vanishes with the process, however that ends. Equal images are kept once.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

IN_MEMORY = 2**30
"""Bytes."""


def cache_root() -> Path:
    """`$SEETHINK_CACHE`, else `$XDG_CACHE_HOME/seethink`, else `~/.cache/seethink`."""
    own = os.environ.get("SEETHINK_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seethink"


@dataclass(frozen=True)
class Slice:
    """A piece of an open file."""

    file: BinaryIO
    start: int
    length: int

    def read(self) -> bytes:
        """The bytes. Safe from several threads, as the position of the file does not move."""
        return os.pread(self.file.fileno(), self.length, self.start)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an archive that is not compressed: where its bytes are."""

    path: str
    name: str
    start: int
    length: int

    def read(self) -> bytes:
        """The bytes; fewer where the archive was cut since. Raises OSError where it is gone."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.length)


class ImageStore:
    """Keeps encoded images by content. Safe from several threads."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        """`in_memory`: bytes."""
        self._room = in_memory
        self._kept: dict[str, bytes | Slice] = {}
        self._file: BinaryIO | None = None
        self._end = 0
        self._lock = threading.Lock()

    def keep(self, data: bytes, sha256: str) -> bytes | Slice:
        """Keep an image and return where it is from now on."""
        with self._lock:
            if sha256 not in self._kept:
                self._kept[sha256] = self._place(data)
            return self._kept[sha256]

    def _place(self, data: bytes) -> bytes | Slice:
        if len(data) <= self._room:
            self._room -= len(data)
            return data
        try:
            return self._append(data)
        except OSError:  # a disk without room costs memory, not the run
            return data

    def _append(self, data: bytes) -> Slice:
        if self._file is None:
            # Not in /tmp, which is often memory itself.
            cache_root().mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=cache_root(), buffering=0)  # noqa: SIM115
        written = 0
        while written < len(data):
            written += os.pwrite(self._file.fileno(), data[written:], self._end + written)
        piece = Slice(self._file, self._end, len(data))
        self._end += len(data)
        return piece
