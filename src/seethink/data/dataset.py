"""Files, folders and the world -> Samples, and a deterministic, resumable order over them.

A row has `messages` or `prompt` (text or chat messages), `images` (or `image`), `answer`, and may have `choices`,
`domain`, `difficulty`, `response`, `id`.
"""

from __future__ import annotations

import json
import re
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
from seethink.rewards.answer import validate_gold
from seethink.rewards.answer.golds import gold_letter
from seethink.types import Sample
from seethink.world.make import is_world, world_samples

_SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val", "test": "test"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class DataError(UserError):
    """Data that cannot be used; the message names the file, the row, and what to do."""


def load_samples(
    source: str, split: str, size: int | None, seed: int, *, image_root: str | None = None
) -> list[Sample]:
    """The first `size` samples of a source. Raises DataError.

    `source` is `world:DOMAINS[:traces]`, or a path: JSONL, Parquet, an Arrow file, or a Hugging Face folder
    (`save_to_disk` or shards). Where files or subfolders of a folder are named after splits, only the split's own
    are read.
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
    root = Path(image_root) if image_root else (path if path.is_dir() else path.parent)
    samples = []
    for file in _files(path, split):
        for number, row in enumerate(_rows(file), start=1):
            if size is not None and len(samples) == size:
                return samples
            try:
                samples.append(to_sample(row, f"{file.stem}-{number}", root))
            except (ImageError, ValueError, TypeError) as error:
                raise DataError(f"{file}, row {number}: {error}") from None
    if not samples:
        raise DataError(f"{path} has no rows")
    return samples


def require_answers(samples: Sequence[Sample], source: str) -> list[Sample]:
    """The same samples. Raises DataError where one has no gold answer, which RL and evaluation need."""
    for sample in samples:
        if not sample.answer:
            raise DataError(f"{source}: sample {sample.id!r} has no 'answer'; without one nothing can be graded")
    return list(samples)


def source_and_size(data: DataConfig, split: str) -> tuple[str, int | None]:
    if split == "train":
        return data.train, data.train_size
    return data.val or data.train, data.val_size


def _files(path: Path, split: str) -> list[Path]:
    """The data files of a split, shards in order."""
    if path.is_file():
        return [path]
    suffixes = (".parquet", ".arrow", ".jsonl", ".ndjson")
    found = sorted(f for f in path.rglob("*") if f.suffix in suffixes and not f.name.startswith("cache-"))
    owners = {file: _split_of(file.relative_to(path)) for file in found}
    named = sorted({owner for owner in owners.values() if owner is not None})
    own = [file for file, owner in owners.items() if owner == split] if named else found
    if not own:
        raise DataError(f"{path} holds no {split} split, only {', '.join(named)}" if named else f"{path} holds no data")
    return own


def _split_of(file: Path) -> str | None:
    """`train/data-00000-of-00002.arrow`, `train-00000-of-00002.parquet`, `validation.jsonl` -> the split."""
    for part in reversed((*file.parts[:-1], file.stem)):
        word = re.split(r"[-_.]", part)[0].lower()
        if word in _SPLITS:
            return _SPLITS[word]
    return None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        if file.suffix in (".jsonl", ".json", ".ndjson"):
            yield from _json_rows(file)
        elif file.suffix in (".parquet", ".arrow"):
            yield from _table_rows(file)
        else:
            raise DataError(f"{file}: expected .jsonl, .parquet, .arrow or a folder of them")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read ({_cause(file)}): {problem}") from None


def _cause(file: Path) -> str:
    with file.open("rb") as handle:
        start = handle.read(40)
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run `git lfs pull`"
    return "it is empty" if not start else "cut off, damaged, or of another format"


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                hint = _cause(path) if number == 1 and "git-lfs" in line else "one object a line is expected"
                raise DataError(f"{path}, line {number}: not JSON ({error.msg}); {hint}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
            yield row


def _table_rows(file: Path) -> Iterator[dict[str, Any]]:
    batches = pa.parquet.ParquetFile(file).iter_batches(256) if file.suffix == ".parquet" else _arrow_batches(file)
    for batch in batches:
        yield from batch.to_pylist()


def _arrow_batches(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as source:
        try:
            yield from pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(source)
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


def to_sample(row: dict[str, Any], default_id: str, root: Path | None) -> Sample:
    """One row -> Sample. Raises ValueError with what was expected and found."""
    question, response = _conversation(row)
    images = _images(row)
    choices, answer = _gold(row)
    if not answer and response is None:
        raise ValueError("needs a non-empty 'answer' (for RL and evaluation) or a 'response' (for SFT)")
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


def _images(row: dict[str, Any]) -> list[Any]:
    """`images` (a list, or one) or `image`."""
    images = row.get("images") if row.get("images") is not None else row.get("image")
    if images is None:
        return []
    return list(images) if isinstance(images, list | tuple) else [images]


def _gold(row: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """(choices, the gold answer: a letter where there are choices, "" where there is none)."""
    options = row.get("choices") or ()
    if isinstance(options, str):
        raise ValueError(f"'choices' must be a list of texts, not the text {options[:40]!r}")
    choices = tuple(str(choice) for choice in options)
    if len(choices) > len(LETTERS):
        raise ValueError(f"{len(choices)} choices; at most {len(LETTERS)} have a letter")
    if row.get("answer") is None or row["answer"] == "":
        return choices, ""
    answer = validate_gold(row["answer"], choices=choices)
    return choices, (gold_letter(answer, choices) or answer) if choices else answer


def _conversation(row: dict[str, Any]) -> tuple[str, str | None]:
    """(question, response to imitate or None) from `messages` or `prompt`."""
    response = row.get("response")
    turns = row.get("messages") or row.get("prompt")
    if isinstance(turns, str) and turns.strip():
        return turns, response
    if not isinstance(turns, Sequence) or not turns or not all(isinstance(turn, dict) for turn in turns):
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
