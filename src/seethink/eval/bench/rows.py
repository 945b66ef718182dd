"""The rows of a benchmark's files, whatever their layout, and the images that they name.

Data are untrusted: nothing in them is run, image paths do not leave the folder of the data, and a table's cell that
names another row's image is followed once.
"""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from seethink.core.errors import UserError
from seethink.core.files import require_file
from seethink.data.image_store import ImageStore
from seethink.data.images import MAX_BYTES, ImageError, ImageRef, check_image
from seethink.eval.bench.prompts import as_list
from seethink.eval.bench.sources import Source

MAX_PIXELS = 178_000_000
"""Of one image: Pillow's own bound. Benchmarks have images of 28 million pixels."""
_ROW_INDEX = 64
"""VLMEvalKit: a shorter text in an image cell is the index of the row that has the image."""
_BATCH = 16


class RowsError(UserError):
    """Rows that cannot be read; the message says which file, which row and what is wrong."""


@dataclass(slots=True)
class Images:
    """Opens the images of one benchmark. With `wanted=False` it opens none: grading needs no pixels."""

    root: Path
    wanted: bool = True
    archive: zipfile.ZipFile | None = None
    store: ImageStore = field(default_factory=ImageStore)

    def open(self, value: Any) -> ImageRef:
        """Raises ImageError."""
        if self.archive is not None and isinstance(value, str):
            value = self._from_zip(value)
        image = check_image(value, self.root, max_pixels=MAX_PIXELS, store=self.store)
        assert isinstance(image, ImageRef)
        return image

    def _from_zip(self, name: str) -> bytes:
        assert self.archive is not None
        tail = name.removeprefix("./")
        found = next((info for info in self.archive.infolist() if _same_member(info.filename, tail)), None)
        if found is None:
            raise ImageError("image_missing", f"{name!r} is not in {self.archive.filename}")
        if found.file_size > MAX_BYTES:
            raise ImageError("image_too_large", f"{name!r} has {found.file_size:,} bytes")
        return self.archive.read(found)


def _same_member(member: str, name: str) -> bool:
    return member == name or member.endswith(f"/{name}")


@dataclass(slots=True)
class Row:
    """One row, as a benchmark's `read` function sees it."""

    values: Mapping[str, Any]
    place: str
    """File and row, for messages."""
    config: str
    """The hub configuration that it is from; "" otherwise."""
    store: Images
    shared: Mapping[str, Any] = field(default_factory=dict)
    """Of a TSV: the image cell of every row that has an image, by index."""

    def get(self, name: str) -> Any:
        """A value; None where it is missing, NaN, or the text that a table has for these."""
        value = self.values.get(name)
        if value is None or value != value or value in ("nan", ""):
            return None
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A value as text without white space around it. Raises RowsError where it is missing without a default."""
        value = self.get(name)
        if value is None:
            if default is None:
                columns = ", ".join(list(self.values)[:20])
                raise RowsError(f"{self.place}: column {name!r} is missing or empty; columns: {columns}")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # tables without a type write 3 as 3.0
        return str(value).strip()

    def options(self, letters: str = "ABCDEFGHIJ") -> tuple[str, ...]:
        """The texts of the option columns A, B, ... up to the first that is empty."""
        found = []
        for letter in letters:
            if self.get(letter) is None:
                break
            found.append(self.text(letter))
        return tuple(found)

    def images(self, *names: str) -> tuple[ImageRef, ...]:
        """The images in these columns, in order; a cell may hold several. Raises RowsError."""
        return tuple(image for name in names for image in self._cell(name))

    def numbered_images(self, stem: str = "image_", most: int = 9) -> dict[int, ImageRef]:
        """Number -> image of the columns `image_1`, `image_2`, ..."""
        found = {number: self.images(f"{stem}{number}") for number in range(1, most + 1)}
        return {number: images[0] for number, images in found.items() if images}

    def _cell(self, name: str) -> list[ImageRef]:
        if not self.store.wanted:
            return []
        value = self.get(name)
        if isinstance(value, str) and len(value) <= _ROW_INDEX and value in self.shared:
            value = self.shared[value]
        values = value if isinstance(value, list) else as_list(value) if isinstance(value, str) else [value]
        try:
            return [self.store.open(one) for one in values if one is not None]
        except ImageError as error:
            raise RowsError(f"{self.place}: column {name!r}: {error}") from None


def read_rows(source: Source, files: list[tuple[Path, str]], root: Path, *, images: bool = True) -> Iterator[Row]:
    """Every row of a source's files, in order. Raises RowsError."""
    folder = root if root.is_dir() else root.parent
    for path, config in files:
        store = Images(folder, images)
        try:
            require_file(path)
            if source.kind == "hub":
                yield from _parquet(path, config, store, images)
            elif source.kind == "tsv":
                yield from _tsv(path, store)
            else:
                yield from _json(path, source, store)
        except (OSError, ValueError, csv.Error, zipfile.BadZipFile, RecursionError) as error:
            said = " ".join(str(error).split())[:300]
            raise RowsError(f"{path} cannot be read: {said}; fetch it again") from None


def _parquet(path: Path, config: str, store: Images, images: bool) -> Iterator[Row]:
    file = pq.ParquetFile(path)
    columns = [name for name in file.schema_arrow.names if images or not _is_image(name)]
    number = 0
    for batch in file.iter_batches(_BATCH, columns=columns):
        for values in batch.to_pylist():
            number += 1
            yield Row(values, f"{path.name}, row {number}", config, store)


def _is_image(name: str) -> bool:
    return name in ("image", "images", "decoded_image") or (name.startswith("image_") and name[6:].isdigit())


def _tsv(path: Path, store: Images) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    shared = dict(_shared_images(path)) if store.wanted else {}
    for number, values in enumerate(_table(path), start=2):
        yield Row(values, f"{path.name}, row {number}", "", store, shared)


def _shared_images(path: Path) -> Iterator[tuple[str, str]]:
    """(index, image) of the rows that other rows name: a first pass, which keeps no other image."""
    named = {values["image"] for values in _table(path) if _is_reference(values.get("image"))}
    if named:
        for values in _table(path):
            if values.get("index") in named and not _is_reference(values.get("image")):
                yield values["index"], values["image"]


def _is_reference(cell: str | None) -> bool:
    return bool(cell) and len(cell or "") <= _ROW_INDEX


def _table(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", restkey="")


def _json(path: Path, source: Source, store: Images) -> Iterator[Row]:
    images = path.parent / source.images
    if source.images.endswith(".zip"):
        folder = images.with_suffix("")
        if images.is_file() and not folder.is_dir():
            store.archive = zipfile.ZipFile(images)
        images = path.parent
    store.root = images
    for number, (key, values) in enumerate(_objects(path), start=1):
        yield Row({"key_": key, **values}, f"{path.name}, row {number}", "", store)


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(its key, else its number) and object, of a list, of an object of objects, or of lines."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        table = json.loads(text)
        if isinstance(table, dict) and not all(isinstance(value, dict) for value in table.values()):
            table = [table]
    except json.JSONDecodeError:
        table = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not isinstance(table, dict | list):
        raise ValueError(f"the file holds {type(table).__name__}, where objects were expected")
    pairs = table.items() if isinstance(table, dict) else ((str(i), value) for i, value in enumerate(table))
    for key, value in pairs:
        if not isinstance(value, dict):
            raise ValueError(f"entry {key} is {type(value).__name__}, where an object was expected")
        yield str(key), value
