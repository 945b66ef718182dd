"""Data sets of a few rows in every file format."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from seethink.config import ReadConfig
from seethink.core.types import Sample
from seethink.data import dataset
from seethink.rewards.golds import read_gold

Row = dict[str, Any]

load_samples = partial(dataset.load_samples, golds=read_gold)
read_rows = partial(dataset.read_rows, golds=read_gold)
"""As training and evaluation read."""


def png(shade: int = 10) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def row(**changes: Any) -> Row:
    return {"prompt": "How many?", "answer": "3", **changes}


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_stream(path: Path, rows: list[Row]) -> Path:
    """Write an Arrow stream, as `save_to_disk` of datasets does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def write_arrow_file(path: Path, rows: list[Row]) -> Path:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def load(path: Path, split: str = "train", size: int | None = None, root: Path | None = None) -> list[Sample]:
    config = ReadConfig(image_root=None if root is None else str(root))
    return load_samples(str(path), split, size, 0, config=config)
