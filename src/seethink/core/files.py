"""Files and folders that are there whole or not at all, whenever the process dies; and those of others left alone."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from seethink.core.errors import UserError

KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
MOST = 256 << 20
"""Bytes of the largest file that is read at once."""
WAITING = ".seethink-tmp"
"""Ends the name of a file that is being written; no other program's files end so."""


def write_text(path: Path, text: str) -> None:
    """Replace the file in one move: a reader, or a run after a crash, sees the old text or the new one."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file in one move: a reader, or a run after a crash, sees the old content or the new one."""
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` in one move at the end of the block, and goes where it fails."""
    waiting = path.with_name(f".{path.name}{WAITING}")
    try:
        with waiting.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(waiting, path)
    except BaseException:
        with contextlib.suppress(OSError):
            waiting.unlink(missing_ok=True)
        raise


def append_whole(file: int, content: bytes, before: int | None = None) -> None:
    """Add to an open file all or nothing: what a full disk took is taken back, so that no line is torn or double.

    `before` is the file's size, where it is known.
    """
    before = os.fstat(file).st_size if before is None else before
    try:
        if os.write(file, content) < len(content):
            raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        os.ftruncate(file, before)
        raise


def write_json(path: Path, content: Any) -> None:
    """Replace the file in one move; NaN and infinity become null."""
    write_text(path, json.dumps(finite_values(content), indent=2) + "\n")


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file in one move; NaN and infinity become null."""
    write_text(path, "".join(json.dumps(finite_values(record)) + "\n" for record in records))


def read_file(path: Path, most: int = MOST) -> bytes:
    """The content of an ordinary file of at most `most` bytes.

    Raises OSError for anything else under that name: a device may never end, and a pipe may never begin.
    """
    size = require_file(path)
    if size > most:
        raise OSError(f"{path} has {size:,} bytes, more than the {most:,} that are read")
    return path.read_bytes()


def require_file(path: Path) -> int:
    """The size in bytes. Raises OSError where the path is not an ordinary file, or a link to one."""
    try:
        about = path.stat()
    except ValueError as error:  # a NUL in the name
        raise OSError(f"{str(path)!r} is not the name of a file: {error}") from None
    if not stat.S_ISREG(about.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(about.st_mode)), "a device")
        raise OSError(f"{path} is {kind}, where a file was expected")
    return about.st_size


def inside(folder: Path, relative: Any) -> Path | None:
    """The path below `folder`; None for a path that is absolute, climbs out, or leaves through a link."""
    if not isinstance(relative, str) or not relative or "\0" in relative or "\\" in relative:
        return None
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        target, root = (folder / path).resolve(), folder.resolve()
    except (OSError, RuntimeError, UnicodeEncodeError):
        return None
    return target if target.is_relative_to(root) else None


def require_writable(path: Path, option: str = "--out") -> None:
    """Raises UserError where no file could be written at `path`, which need not exist. Leaves nothing behind.

    For the beginning of a command: it must not work for hours and then fail to write.
    """
    try:
        above = nearest(path)
        if not above.is_dir() and above != path.absolute():
            raise OSError(f"{above} is a file")
        with tempfile.TemporaryFile(dir=above if above.is_dir() else above.parent):
            pass
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {str(path)!r} cannot be written: {error}; choose another place") from None


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    path = path.expanduser().absolute()
    return next(known for known in (path, *path.parents) if known.exists())


def claim_file(path: Path, is_ours: Callable[[Path], bool], what: str, option: str = "--out") -> None:
    """Raises UserError where a result cannot be written to `path`, or where something else than an earlier result is.

    `is_ours` tells an earlier result by its content; `what` names the results.
    """
    if path.is_symlink() or path.exists():
        try:
            require_file(path)
            ours = is_ours(path)
        except OSError as error:
            raise UserError(f"{option}: {error}; choose another name") from None
        if not ours:
            raise UserError(
                f"{option} {str(path)!r} exists and is not {what}: it is left as it is; choose another name, or move "
                "the file away"
            )
    require_writable(path, option)


def refuse_full_folder(folder: Path, option: str = "--out") -> None:
    """Raises UserError where a new folder cannot be written: something is there, or nothing can be."""
    try:
        full = (folder.exists() or folder.is_symlink()) and (not folder.is_dir() or any(folder.iterdir()))
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {str(folder)!r} cannot be used: {error}; choose another folder") from None
    if full:
        raise UserError(f"{option}: {folder} exists and is not empty; choose another folder")
    require_writable(folder, option)


def json_with(*keys: str) -> Callable[[Path], bool]:
    """For `claim_file`: whether a file is a JSON object with all of these keys."""

    def has_keys(path: Path) -> bool:
        try:
            table = json.loads(read_file(path))
        except (ValueError, RecursionError):
            return False
        return isinstance(table, dict) and all(key in table for key in keys)

    return has_keys


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
