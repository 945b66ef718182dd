"""Files and folders -> raw rows: JSON lines, JSON lists, Parquet, Arrow, WebDataset shards, Hugging Face folders.

Rows are streamed. A line that is not JSON is a bad row; a file that cannot be read at all is an error.
"""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from seethink.data.quarantine import DataError, RowError, escaped
from seethink.data.shards import shard_rows

SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val", "test": "test"}
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = (".parquet", ".arrow")
SHARD_SUFFIX = ".tar"
_NO_DATA = ("state.json", "dataset_info.json", "dataset_dict.json", "dataset_infos.json")
_BATCH = 16
"""Rows that are turned into Python objects together; rows with images are megabytes each."""
_CHUNK = 1 << 20
_MAX_ROW = 1 << 28
MOST_FILES = 100_000
"""Of one range."""
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_WILD = re.compile(r"[*?\[]")
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in a file."""

    file: str
    row: int
    """From 1: the line of a JSON lines file, else the number in the file."""
    data: dict[str, Any] | RowError

    @property
    def default_id(self) -> str:
        return f"{escaped(Path(self.file).stem)}-{self.row}"


def read_files(files: Sequence[Path]) -> Iterator[RawRow]:
    """The rows of some files, one file after the other. Raises DataError where a file cannot be read."""
    for file in files:
        empty = True
        for row in _rows(file):
            empty = False
            yield row
        if empty and not file.stat().st_size:
            raise DataError(f"{file} cannot be read (it is empty)")


def data_files(path: Path, split: str) -> list[Path]:
    """The data files of a split, shards in order. Raises DataError.

    Where files or subfolders of a folder are named after splits, only the split's own are read; a folder written by
    `save_to_disk` has the files that its state.json names.
    """
    if path.is_file():
        return [path]
    if (path / "state.json").is_file():
        return _saved_files(path)
    found = sorted(f for f in path.rglob("*") if f.suffix in (*TABLE_SUFFIXES, ".jsonl", ".ndjson") and _is_data(f))
    # A folder of rows may have its images as tars beside them.
    found = found or sorted(f for f in path.rglob("*.json") if _is_data(f))
    found = found or sorted(f for f in path.rglob(f"*{SHARD_SUFFIX}") if _is_data(f))
    owners = {file: _split_of(file.relative_to(path)) for file in found}
    named = sorted({owner for owner in owners.values() if owner is not None})
    own = [file for file, owner in owners.items() if owner == split] if named else found
    if not own:
        raise DataError(f"{path} holds no {split} split, only {', '.join(named)}" if named else f"{path} holds no data")
    states = dict.fromkeys(f.parent for f in own if (f.parent / "state.json").is_file())
    return [f for folder in states for f in _saved_files(folder)] + [f for f in own if f.parent not in states]


def is_pattern(source: str) -> bool:
    return bool(_RANGE.search(source) or _WILD.search(source))


def matching_files(pattern: str) -> tuple[list[Path], Path]:
    """(the files that a pattern names, the folder above its first `*` or range). Raises DataError.

    A range `{00..15}` is written out, and each of its files must be there; files that `*` names are sorted.
    """
    found = []
    for one in _written_out(pattern):
        names = sorted(glob.glob(one)) if _WILD.search(one) else [one]
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            raise DataError(f"no data at {one!r}, which {pattern!r} names")
        found += files
    fixed = re.split(r"[*?\[{]", pattern)[0]
    return found, Path(fixed.rpartition("/")[0] or ("/" if fixed.startswith("/") else "."))


def _written_out(pattern: str) -> list[str]:
    """`a-{08..10}.tar` -> `a-08.tar`, `a-09.tar`, `a-10.tar`. Raises DataError."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found[1], found[2]
    if not 0 <= int(last) - int(first) < MOST_FILES:
        raise DataError(f"{pattern!r}: the range {found[0]} is empty or longer than {MOST_FILES:,}")
    rests = _written_out(pattern[found.end() :])
    numbers = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    return [pattern[: found.start()] + number + rest for number in numbers for rest in rests]


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith("cache-") and file.name not in _NO_DATA


def _saved_files(folder: Path) -> list[Path]:
    """The shards of a `save_to_disk` folder, in its order, without the shards of an earlier save."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        names = sorted(f.name for f in folder.glob("*.arrow") if _is_data(f))
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks the data file {missing[0]!r} that its state.json names")
    if not names:
        raise DataError(f"{folder} holds no data")
    return [folder / name for name in names]


def _split_of(file: Path) -> str | None:
    """`train/data-00000-of-00002.arrow`, `train-00000-of-00002.parquet`, `validation.jsonl` -> the split."""
    return next((s for s in map(split_named, reversed((*file.parts[:-1], file.stem))) if s is not None), None)


def split_named(name: str) -> str | None:
    return SPLITS.get(re.split(r"[-_.]", name)[0].lower())


def _rows(file: Path) -> Iterator[RawRow]:
    try:
        rows: Iterator[tuple[int, dict[str, Any] | RowError]]
        if file.suffix in TABLE_SUFFIXES:
            rows = _table_rows(file)
        elif file.suffix == SHARD_SUFFIX:
            rows = shard_rows(file)
        elif file.suffix in JSON_SUFFIXES:
            rows = _json_list(file) if _starts_list(file) else _json_lines(file)
        else:
            raise DataError(f"{file}: expected .jsonl, .json, .parquet, .arrow, .tar or a folder of them")
        yield from (RawRow(str(file), number, data) for number, data in rows)
    except (pa.ArrowException, tarfile.TarError, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read ({_cause(file)}): {said}") from None


def _cause(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            start = handle.read(40)
    except OSError:
        return "it cannot be opened"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run `git lfs pull`"
    return "it is empty" if not start else "cut off, damaged, or of another format"


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    with file.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if number == 1:
                if line.startswith(b"version https://git-lfs"):
                    raise DataError(f"{file} cannot be read ({_cause(file)})")
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | RowError:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        # ValueError: bad JSON, bad UTF-8, and integers of too many digits.
        return RowError("not_json", f"not JSON ({str(error)[:80]}); one object per line is expected")
    return _object(row)


def _object(row: Any) -> dict[str, Any] | RowError:
    return row if isinstance(row, dict) else RowError("not_json", f"expected an object, found {type(row).__name__}")


def _starts_list(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") and file.suffix == ".json"


def _json_list(file: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """The elements of one JSON list, which is never held whole: LLaVA's files are gigabytes."""
    decoder, number = json.JSONDecoder(), 0
    with file.open(encoding="utf-8-sig") as handle:
        buffer = handle.read(_CHUNK).lstrip()
        at = 1
        while True:
            at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
            if buffer.startswith("]", at):
                return
            try:
                row, at = decoder.raw_decode(buffer, at)
            except (ValueError, RecursionError) as error:
                more = handle.read(max(_CHUNK, len(buffer) - at))
                if not more or len(buffer) - at > _MAX_ROW:
                    where = f"after {number:,} rows: {str(error)[:80]}"
                    raise DataError(f"{file} cannot be read (its JSON list is cut off or damaged {where})") from None
                buffer, at = buffer[at:] + more, 0
                continue
            number += 1
            yield number, _object(row)


def _table_rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    number = 0
    for batch in _parquet_batches(file) if file.suffix == ".parquet" else _arrow_batches(file):
        for start in range(0, batch.num_rows, _BATCH):
            for row in batch.slice(start, _BATCH).to_pylist():
                number += 1
                yield number, row


def _parquet_batches(file: Path) -> Iterator[pa.RecordBatch]:
    # Buffered: a row group of images would otherwise be read whole.
    # A handle, because Arrow takes only names that are UTF-8.
    with file.open("rb") as handle, pa.parquet.ParquetFile(handle, buffer_size=_CHUNK, pre_buffer=False) as table:
        yield from table.iter_batches(_BATCH, use_threads=False)


def _arrow_batches(file: Path) -> Iterator[pa.RecordBatch]:
    with file.open("rb") as handle:
        source = pa.PythonFile(handle, mode="r")
        try:
            yield from pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            handle.seek(0)
            reader = pa.ipc.open_file(source)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
