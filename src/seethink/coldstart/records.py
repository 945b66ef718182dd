"""Append-only files of JSON objects with a `key`, which a process that is killed at any point leaves whole.

An object is in the file whole or not at all, and a later object replaces an earlier one of its key. Texts stay on the
disk: only where they lie, and what a summary keeps of them, is in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import append_whole, require_file
from seethink.core.redact import visible
from seethink.runs.reading import parse_object

S = TypeVar("S")


class Records(Generic[S]):
    """One file. `summaries` has what `summary` keeps of the last object of every key, in the order of first keys.

    Example:
        with Records(folder / "traces.jsonl", lambda record: record["state"]) as traces:
            traces.append({"key": "ab12", "state": "done", "text": "..."})
    """

    def __init__(self, path: Path, summary: Callable[[dict[str, Any]], S]) -> None:
        """Reads the file. A line that a killed process left torn goes; others that are no such object are named.

        Raises UserError where the file cannot be read or written.
        """
        self.path, self._summary = path, summary
        self.summaries: dict[str, S] = {}
        self._places: dict[str, tuple[int, int]] = {}
        try:
            if path.exists():
                require_file(path)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._end = self._read()
        except OSError as error:
            raise UserError(f"{path} cannot be used: {error}; choose another folder") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.summaries)

    def __contains__(self, key: str) -> bool:
        return key in self.summaries

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The last object of every key."""
        return (self[key] for key in self.summaries)

    def __getitem__(self, key: str) -> dict[str, Any]:
        start, length = self._places[key]
        return parse_object(os.pread(self._file, length, start))

    def get(self, key: str) -> dict[str, Any]:
        """The last object of a key; empty where there is none."""
        return self[key] if key in self.summaries else {}

    def append(self, record: dict[str, Any]) -> None:
        """Add an object. Raises UserError where the disk does not take it."""
        line = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
        try:
            append_whole(self._file, line)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error}; make room and give the command again") from None
        self._keep(record, len(line))

    def close(self) -> None:
        """Have the disk hold everything."""
        os.fsync(self._file)
        os.close(self._file)

    def _keep(self, record: dict[str, Any], length: int) -> None:
        self.summaries[record["key"]] = self._summary(record)
        self._places[record["key"]] = (self._end, length)
        self._end += length

    def _read(self) -> int:
        """Fill in the summaries and places; returns where the last whole line ends."""
        self._end, damaged = 0, 0
        with open(os.dup(self._file), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, self._end)
                    break
                try:
                    self._keep(parse_object(line), len(line))
                except (ValueError, KeyError, TypeError):
                    self._end += len(line)
                    damaged += 1
        if damaged:
            lines = "line is" if damaged == 1 else "lines are"
            say(visible(f"{self.path}: {damaged} {lines} damaged and left out"), "yellow")
        return self._end
