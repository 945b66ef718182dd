"""Rows with their pictures in one Parquet file, in the form in which Hugging Face keeps images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from seethink.core.files import read_file, replacing

AT_ONCE = 128
"""Rows of a row group, whose pictures are in memory at one time."""
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_KINDS = {"images": pa.list_(_IMAGE), "choices": pa.list_(pa.string())}
"""Columns of other values than a text."""


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str], pictures: Path) -> None:
    """Replace the file in one move; a file without rows goes. `images` of a row are names of files in `pictures`.

    Raises OSError where a picture cannot be read or the file not be written.
    """
    schema = pa.schema([(name, _KINDS.get(name, pa.string())) for name in columns])
    count = 0
    with replacing(path) as file, pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for some in _batches(rows):
            full = [_full(row, pictures) for row in some]
            writer.write_table(pa.Table.from_pylist(full, schema))
            count += len(full)
    if not count:
        path.unlink()


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rows = iter(rows)
    while batch := list(islice(rows, AT_ONCE)):
        yield batch


def _full(row: Mapping[str, Any], pictures: Path) -> dict[str, Any]:
    full = {name: _whole(value) if isinstance(value, str) else value for name, value in row.items()}
    return {**full, "images": [_picture(pictures, name) for name in row.get("images", ())]}


def _whole(text: str) -> str:
    """A text without halves of characters, which Arrow takes no text with: they are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _picture(folder: Path, name: str) -> dict[str, Any]:
    return {"bytes": read_file(folder / name), "path": Path(name).name}
