"""Append-only files of JSON objects with a `key`, which a process that is killed at any point leaves whole.

An object is in the file whole or not at all, and a later object replaces an earlier one of its key. Texts stay on the
disk: only where they lie is in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import append_whole, replacing, require_file
from seethink.core.redact import visible
from seethink.runs.reading import parse_object


class KeyedLines:
    """One file. Keys are in the order in which they were first written.

    Example:
        with KeyedLines(folder / "grades.jsonl") as grades:
            grades.append([{"key": "ab12", "verdict": "correct"}])
    """

    def __init__(self, path: Path) -> None:
        """Reads the file. A line that a killed process left torn goes; others that are no such object are named.

        Raises UserError where the file cannot be read or written.
        """
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        """Key -> (offset, length) of its last line, in bytes."""
        self._end = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                require_file(path)
            self._file = self._opened()
            self._scan()
        except OSError as error:
            raise UserError(f"{path} cannot be used: {error}; choose another folder") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The last object of every key."""
        return self.read(self._places)

    def __getitem__(self, key: str) -> dict[str, Any]:
        return parse_object(self._line(key))

    def keys(self) -> Iterable[str]:
        return self._places.keys()

    def read(self, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The last objects of these keys, in their order."""
        return (self[key] for key in keys)

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add objects: all of them are the operating system's when this returns, or none.

        Raises UserError where the disk does not take them.
        """
        records = list(records)
        lines = [encoded(record) for record in records]
        try:
            append_whole(self._file, b"".join(lines), self._end)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error}; make room and give the command again") from None
        for record, line in zip(records, lines, strict=True):
            self._keep(record, len(line))

    def put_in_order(self, keys: Sequence[str]) -> None:
        """Have the file hold the last objects of these keys alone, in this order; it is replaced in one move.

        Two runs that end alike then leave the same bytes.
        """
        places = [self._places[key] for key in keys]
        starts = [0, *accumulate(length for _, length in places)]
        if [start for start, _ in places] == starts[:-1] and self._end == starts[-1]:
            return
        try:
            with replacing(self.path) as file:
                for key in keys:
                    file.write(self._line(key))
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error}") from None
        os.close(self._file)
        self._file = self._opened()
        self._places = {key: (start, length) for key, start, (_, length) in zip(keys, starts[:-1], places, strict=True)}
        self._end = starts[-1]

    def close(self) -> None:
        """Have the disk hold everything."""
        os.fsync(self._file)
        os.close(self._file)

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _keep(self, record: Mapping[str, Any], length: int) -> None:
        """Remember an object that begins where the known part of the file ends.

        Raises KeyError, TypeError or ValueError for an object that is none of this file's.
        """
        key = record["key"]
        if not isinstance(key, str):
            raise TypeError(f"a key is a text, not {key!r}")
        self._places[key] = (self._end, length)
        self._end += length

    def _line(self, key: str) -> bytes:
        start, length = self._places[key]
        return os.pread(self._file, length, start)

    def _scan(self) -> None:
        """Find the objects; cut off what follows the last whole line."""
        damaged = 0
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


def encoded(record: Mapping[str, Any]) -> bytes:
    """The line of an object. Half of a character, which models write now and then, is kept as its escape."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"
