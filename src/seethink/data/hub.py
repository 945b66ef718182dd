"""Data sets by their Hugging Face name, loaded by the `datasets` library where the recipe allows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seethink.data.files import RawRow, split_named
from seethink.data.quarantine import DataError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(:[\w.-]{1,96})?")
_BATCH = 16


def is_hub_name(source: str) -> bool:
    """`org/name` or `org/name:config`, where no such path exists."""
    return bool(_NAME.fullmatch(source)) and not Path(source).exists()


def open_hub(source: str, split: str) -> tuple[Iterator[RawRow], Path]:
    """(rows of a split, the folder that their image paths are confined in). Raises DataError.

    `source` is `org/name[:config]`, or a folder of data files. Images stay encoded, and no code of the data set runs.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"{source!r} needs the datasets library: pip install 'seethink[hub]'") from None
    name, _, config = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # what it raises depends on the hub, the network and the file format
        said = " ".join(str(error).split())[:300]
        raise DataError(f"the data set {source!r} cannot be loaded: {type(error).__name__}: {said}") from None
    table = loaded[_choose(list(loaded), split, source)]
    return _rows(table.with_format("arrow"), source), Path(datasets.config.HF_CACHE_HOME)


def _choose(names: list[str], split: str, source: str) -> str:
    """The data set's own name of a split. Another split is never used instead: a test would then see training data."""
    found = [name for name in names if split_named(name) == split]
    if not found:
        raise DataError(f"{source!r} holds no {split} split, only {', '.join(names)}")
    return min(found, key=lambda name: (len(name), name))


def _rows(table: Any, source: str) -> Iterator[RawRow]:
    # In Arrow's format images are the stored bytes, not decoded pictures.
    number = 0
    for batch in table.iter(_BATCH):
        for row in batch.to_pylist():
            number += 1
            yield RawRow(source, number, row)
