"""Files and folders that are there whole or not at all, whenever the process dies."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Replace the file in one move: a reader, or a run after a crash, sees the old text or the new one."""
    waiting = path.with_name(f".{path.name}.tmp")
    try:
        with waiting.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(waiting, path)
    except BaseException:
        with contextlib.suppress(OSError):
            waiting.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Replace the file in one move; NaN and infinity become null."""
    write_text(path, json.dumps(finite_values(content), indent=2) + "\n")


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file in one move; NaN and infinity become null."""
    write_text(path, "".join(json.dumps(finite_values(record)) + "\n" for record in records))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file that grows by a line a step, up to a half-written one; none where it does not exist."""
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def checked_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of every line that is not blank. Raises UserError where one is not a JSON object."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"line {number} of {path} is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise UserError(f"line {number} of {path} is not a JSON object")
            yield number, record


def finite_values(content: Any) -> Any:
    """A copy in which NaN and infinity are None, at any depth."""
    if isinstance(content, Mapping):
        return {key: finite_values(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite_values(value) for value in content]
    return finite_or_none(content) if isinstance(content, float) else content


def finite_or_none(value: float) -> float | None:
    """JSON has neither NaN nor infinity: both become null."""
    return value if math.isfinite(value) else None


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or which names a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; its files are synced all the same.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def is_write_failure(error: BaseException) -> bool:
    """Whether the disk was at fault: full, over quota, read-only, gone. safetensors says so in words alone."""
    return isinstance(error, OSError) or "I/O error" in str(error)


def disk_is_full(error: BaseException) -> bool:
    """Whether the reason of a write failure was missing room."""
    codes = {errno.ENOSPC, errno.EDQUOT}
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])
    return number in codes
