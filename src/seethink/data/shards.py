"""WebDataset shards: tar files whose members of one name are one row, e.g. `0001.json` and `0001.jpg`.

Nothing is extracted. Only the headers are walked and the texts read; an image stays where it is in the tar and is read
from there when it is needed. Tars are untrusted: names are compared and never opened as paths.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from seethink.data.image_store import Member
from seethink.data.quarantine import RowError
from seethink.data.values import is_empty

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
MAX_HEADER = 1 << 16
"""Bytes of a header with long names; no honest one has more."""
MAX_TEXT = 1 << 24
"""Bytes of one text member."""
MAX_MEMBERS = 1000
"""Of one row."""
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
OTHERS = "images that the row does not name"
"""The column of image members beside those that the row's own columns name."""


@dataclass(slots=True)
class _Group:
    """The members of one row, or what is wrong with one of them."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """By what follows the first dot of the name, in the order of the tar."""
    error: RowError | None = None


def shard_rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """(number, row) of a tar in its order. Raises TarError where the tar cannot be read to its end."""
    with file.open("rb") as handle:
        for number, group in enumerate(_groups(file, handle), start=1):
            yield number, _row(group, handle)


def _groups(file: Path, handle: BinaryIO) -> Iterator[_Group]:
    """Neighbouring members whose names begin alike, up to the first dot after their folder."""
    group: _Group | None = None
    for entry in _entries(file, handle):
        folder, slash, base = entry.name.removeprefix("./").rpartition("/")
        stem, _, kind = base.partition(".")
        if not stem or not kind:
            continue  # hidden, or without a suffix: a note on the shard, such as README
        key = folder + slash + stem
        if group is None or group.key != key:
            if group is not None:
                yield group
            group = _Group(key)
        _add(group, kind.lower(), entry, str(file))
    if group is not None:
        yield group


def _add(group: _Group, kind: str, entry: tarfile.TarInfo, path: str) -> None:
    """Put a member into its row, or what is wrong with it."""
    shown, name = repr(entry.name[:120]), PurePosixPath(entry.name)
    wrong = None
    if name.is_absolute() or ".." in name.parts:
        wrong = f"the member {shown} has a name that leads out of the archive"
    elif not entry.isreg() or entry.issparse():
        wrong = f"the member {shown} is a link, a device or a sparse file; only plain files are read"
    elif kind in group.members:
        wrong = f"the member {shown} is there twice"
    elif len(group.members) >= MAX_MEMBERS:
        wrong = f"over {MAX_MEMBERS:,} members are named {group.key[:80]!r}"
    if wrong is not None:
        group.error = group.error or RowError("bad_member", wrong)
        return
    group.members[kind] = Member(path, entry.name, entry.offset_data, entry.size)


class _Headers:
    """A tar of which only headers are read: longer pieces are refused before memory is taken for them."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.seek, self.tell = handle.seek, handle.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header at byte {self.tell():,} says that it has {size:,} bytes")
        return self._handle.read(size)


def _entries(file: Path, handle: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members that are no folders. Raises TarError."""
    if handle.read(6).startswith(COMPRESSED):
        raise tarfile.ReadError("a compressed tar has no places to read images from; unpack it with gunzip or the like")
    handle.seek(0)
    size = file.stat().st_size
    try:
        with tarfile.open(fileobj=_Headers(handle), mode="r:") as tar:  # type: ignore[call-overload]
            while (entry := tar.next()) is not None:
                tar.members = []  # or it would keep every header
                if entry.size < 0 or entry.offset_data + entry.size > size:
                    raise tarfile.ReadError(f"it ends within the member {entry.name[:120]!r}")
                if not entry.isdir():
                    yield entry
            end = tar.offset
    except (ValueError, OverflowError, RecursionError) as error:
        raise tarfile.ReadError(f"a header is damaged ({str(error)[:80]})") from None
    handle.seek(end)
    mark = handle.read(tarfile.BLOCKSIZE)
    if mark.strip(b"\0") or len(mark) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it breaks off at byte {end:,}, without the blocks that end a tar")


def _row(group: _Group, handle: BinaryIO) -> dict[str, Any] | RowError:
    if group.error is not None:
        return group.error
    row: dict[str, Any] = {}
    images: list[Member] = []
    try:
        for kind, member in group.members.items():
            if kind.rpartition(".")[2] in IMAGE_SUFFIXES:
                images.append(member)
            else:
                row |= _texts(kind, member, handle, row)
        row.setdefault("id", group.key)
        return _with_images(row, images)
    except RowError as error:
        return error


def _texts(kind: str, member: Member, handle: BinaryIO, known: Mapping[str, Any]) -> dict[str, Any]:
    """What a text member says: an object's columns that are not `known`, or one column named after the member.

    Raises RowError.
    """
    shown, is_json = repr(member.name[:120]), kind.rpartition(".")[2] == "json"
    if member.length > MAX_TEXT:
        raise RowError("bad_member", f"the member {shown} has {member.length:,} bytes; a text has at most {MAX_TEXT:,}")
    handle.seek(member.start)
    content = handle.read(member.length)
    try:
        value = json.loads(content) if is_json else content.decode("utf-8")
    except (ValueError, RecursionError) as error:
        said = f"the member {shown} is no {'JSON' if is_json else 'text or image that is read'} ({str(error)[:60]})"
        raise RowError("bad_member", said) from None
    if kind != "json":
        return {kind.removesuffix(".json").removesuffix(".txt"): value}
    if not isinstance(value, dict):
        raise RowError("bad_member", f"the member {shown}: expected an object, found {type(value).__name__}")
    return {column: held for column, held in value.items() if column not in known}


def _with_images(row: dict[str, Any], images: list[Member]) -> dict[str, Any]:
    """The row with its image members: where its columns name them, else all in the column `images`. Raises RowError."""
    by_name = {member.name.rpartition("/")[2]: member for member in images}
    named: set[Member] = set()

    def found(value: Any) -> Any:
        if isinstance(value, list):
            return [found(entry) for entry in value]
        member = by_name.get(value.rpartition("/")[2]) if isinstance(value, str) else None
        if member is None:
            return value
        named.add(member)
        return member

    row = {column: found(value) for column, value in row.items()}
    others = [member for member in images if member not in named]
    if others and not named and not is_empty(row.get("images")):
        raise RowError(
            "image_missing", f"'images' names none of the row's own images, {others[0].name[:120]!r} and others"
        )
    if others:
        row[OTHERS if named else "images"] = others
    return row
