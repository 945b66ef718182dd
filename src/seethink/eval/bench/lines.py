"""JSON lines with a key each, appended as they come and put in order at the end.

A process may die at any byte: a last line without its end is cut off, and the next run appends after it. What is known
in memory is where each line is, so that answers of any length take no room.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from seethink.core.errors import UserError
from seethink.core.files import WAITING, require_file


class KeyedLines:
    """One file. A key that was written twice counts as it was written last."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where the file cannot be used."""
        self._path = path
        self._places: dict[str, tuple[int, int]] = {}
        """Key -> (offset, length) of its line."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                require_file(path)
            self._file: BinaryIO = path.open("a+b")
            self._scan()
        except OSError as error:
            raise UserError(f"{path} cannot be used: {error}; choose another --out") from None

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def keys(self) -> Iterable[str]:
        return self._places.keys()

    def close(self) -> None:
        self._file.close()

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write records, each with a `key`; they are the operating system's when this returns."""
        at = os.fstat(self._file.fileno()).st_size
        lines = bytearray()
        for record in records:
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
            self._places[record["key"]] = (at + len(lines), len(line) + 1)
            lines += line + b"\n"
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error}; the same command goes on from here") from None

    def read(self, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The records of these keys, in their order."""
        for key in keys:
            yield json.loads(self._line(key))

    def put_in_order(self, keys: Sequence[str]) -> None:
        """Have the file hold the records of these keys alone, in this order; it is replaced in one move."""
        places = [self._places[key] for key in keys]
        starts = [0]
        for _, length in places:
            starts.append(starts[-1] + length)
        self._file.seek(0, os.SEEK_END)
        if [start for start, _ in places] == starts[:-1] and self._file.tell() == starts[-1]:
            return
        waiting = self._path.with_name(f".{self._path.name}{WAITING}")
        try:
            with waiting.open("wb") as file:
                for key in keys:
                    file.write(self._line(key))
                file.flush()
                os.fsync(file.fileno())
            os.replace(waiting, self._path)
        except OSError as error:
            waiting.unlink(missing_ok=True)
            raise UserError(f"{self._path} cannot be written: {error}") from None
        self._file.close()
        self._file = self._path.open("a+b")
        self._places = {key: (start, length) for key, start, (_, length) in zip(keys, starts[:-1], places, strict=True)}

    def _line(self, key: str) -> bytes:
        start, length = self._places[key]
        return os.pread(self._file.fileno(), length, start)

    def _scan(self) -> None:
        """Find the keys; cut off what follows the last whole line."""
        self._file.seek(0)
        at = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(at)
                break
            key = _key(line)
            if key is not None:
                self._places[key] = (at, len(line))
            at += len(line)


def _key(line: bytes) -> str | None:
    """The key of a line; None where the line is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    key = record.get("key") if isinstance(record, dict) else None
    return key if isinstance(key, str) else None
