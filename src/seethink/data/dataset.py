"""Files, folders and the world -> Samples, and a deterministic, resumable order over them.

A row has `messages` or `prompt` (text or chat messages), `images` (or `image`), `answer`, and may have `choices`,
`domain`, `difficulty`, `response`, `id`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from seethink.config import DataConfig
from seethink.data.images import ImageError, open_image
from seethink.errors import UserError
from seethink.types import Sample
from seethink.world.make import is_world, world_samples

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class DataError(UserError):
    """Data that cannot be used; the message names the file, the row, and what to do."""


def load_samples(
    source: str, split: str, size: int | None, seed: int, *, image_root: str | None = None
) -> list[Sample]:
    """The first `size` samples of a source. Raises DataError.

    `source` is `world:DOMAINS[:traces]`, or a path: JSONL, Parquet, an Arrow file, or a Hugging Face folder
    (`save_to_disk` or Parquet shards; a file or subfolder named after the split is preferred).
    """
    if is_world(source):
        if size is None:
            raise DataError(f"{source!r} is endless: give a size (data.train_size, data.val_size or eval.size)")
        try:
            return world_samples(source, split, size, seed)
        except ValueError as error:
            raise DataError(str(error)) from None
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"no data at {source!r}; give a file, a folder, or world:DOMAINS[:traces]")
    file = _split_path(path, split)
    root = Path(image_root) if image_root else (file if file.is_dir() else file.parent)
    samples = []
    for number, row in enumerate(_rows(file), start=1):
        if size is not None and len(samples) == size:
            break
        try:
            samples.append(to_sample(row, f"{file.stem}-{number}", root))
        except (ImageError, ValueError, TypeError) as error:
            raise DataError(f"{file}, row {number}: {error}") from None
    if not samples:
        raise DataError(f"{file} has no rows")
    return samples


def source_and_size(data: DataConfig, split: str) -> tuple[str, int | None]:
    if split == "train":
        return data.train, data.train_size
    return data.val or data.train, data.val_size


def _split_path(path: Path, split: str) -> Path:
    if path.is_file():
        return path
    for candidate in (path / split, *sorted(path.glob(f"{split}*.parquet")), path / f"{split}.jsonl"):
        if candidate.exists():
            return candidate
    return path


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        yield from _table_rows(path)
    elif path.suffix in (".jsonl", ".json", ".ndjson"):
        yield from _json_rows(path)
    elif path.suffix in (".parquet", ".arrow"):
        yield from _table_rows(path)
    else:
        raise DataError(f"{path}: expected .jsonl, .parquet, .arrow or a folder of them")


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: not JSON ({error.msg}); one object a line is expected"
                ) from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
            yield row


def _table_rows(path: Path) -> Iterator[dict[str, Any]]:
    files = sorted(f for pattern in ("*.parquet", "*.arrow") for f in path.rglob(pattern)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .parquet or .arrow file")
    for file in files:
        try:
            if file.suffix == ".parquet":
                batches: Iterator[pa.RecordBatch] = pa.parquet.ParquetFile(file).iter_batches(256)
            else:
                batches = iter(_arrow_batches(file))
            for batch in batches:
                yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            hint = " (it is a Git LFS pointer: run `git lfs pull`)" if _is_lfs_pointer(file) else ""
            raise DataError(f"{file} cannot be read{hint}: {error}") from None


def _arrow_batches(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as source:
        try:
            yield from pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(source)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


def _is_lfs_pointer(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(40).startswith(b"version https://git-lfs")


def to_sample(row: dict[str, Any], default_id: str, root: Path | None) -> Sample:
    """One row -> Sample. Raises ValueError with what was expected and found."""
    question, response = _conversation(row)
    images = row.get("images")
    if images is None:
        images = [] if row.get("image") is None else [row["image"]]
    choices = tuple(str(c) for c in row.get("choices") or ())
    answer = "" if row.get("answer") is None else str(row["answer"]).strip()
    if choices and answer not in LETTERS[: len(choices)] and answer in choices:
        answer = LETTERS[choices.index(answer)]
    if not answer and response is None:
        raise ValueError("needs a non-empty 'answer' (for RL and evaluation) or a 'response' (for SFT)")
    if choices and answer and answer not in LETTERS[: len(choices)]:
        raise ValueError(f"answer {answer!r} is neither a letter nor a text of its {len(choices)} choices")
    marks = question.count("<image>")
    if marks and marks != len(images):
        raise ValueError(f"the question has {marks} <image> marks but there are {len(images)} images")
    return Sample(
        id=str(row.get("id") or default_id),
        question=question,
        images=tuple(open_image(image, root) for image in images),
        answer=answer,
        choices=choices,
        domain=str(row.get("domain") or "default"),
        difficulty=str(row.get("difficulty") or "normal"),
        response=response,
    )


def _conversation(row: dict[str, Any]) -> tuple[str, str | None]:
    """(question, response to imitate or None) from `messages` or `prompt`."""
    response = row.get("response")
    turns = row.get("messages") or row.get("prompt")
    if isinstance(turns, str) and turns.strip():
        return turns, response
    if not isinstance(turns, Sequence) or not turns:
        raise ValueError(f"needs 'messages' or 'prompt'; found columns {sorted(row)}")
    *before, last = turns
    if last.get("role") == "assistant":
        response, turns = _text(last), before
    texts = [_text(turn) for turn in turns if turn.get("role") == "user"]
    if len(texts) != 1:
        raise ValueError(f"expected one user turn, found {len(texts)}")
    return texts[0], response


def _text(turn: dict[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(f"message content must be text or a list of parts, not {type(content).__name__}")
    return "".join("<image>" if part.get("type") == "image" else str(part.get("text") or "") for part in content)


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a function of (seed, epoch) alone, so that a resumed run finds its place."""
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


def endless_order(count: int, seed: int, start: int = 0) -> Iterator[int]:
    """Indices epoch after epoch, beginning at position `start` of the whole sequence."""
    epoch, offset = divmod(start, count)
    while True:
        yield from shuffled(count, seed, epoch)[offset:]
        epoch, offset = epoch + 1, 0
