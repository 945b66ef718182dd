"""Files, folders, hub names and the world -> Samples, and a deterministic, resumable order over them.

Rows are in our own columns or in those of a peer (`columns.py`). Bad ones are left out and counted (`quarantine.py`).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from seethink.config import ReadConfig
from seethink.core.console import console
from seethink.core.files import write_text
from seethink.core.types import Sample
from seethink.data.columns import (
    IMAGE_MARK,
    STYLES,
    Fields,
    Row,
    Style,
    expectations,
    found_columns,
    read_fields,
    recognise,
)
from seethink.data.files import RawRow, read_files
from seethink.data.hub import is_hub_name, open_hub
from seethink.data.image_store import ImageStore
from seethink.data.images import ImageRef, check_image
from seethink.data.quarantine import DataError, Problem, Quarantine, RowError, as_quarantine, problem
from seethink.rewards.grader import validate_gold
from seethink.rewards.grader.golds import gold_letter
from seethink.world.make import is_world, world_samples

__all__ = ["DataError", "RowResult", "load_samples", "read_rows"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PROBE = 20
"""Rows from which the column style is told."""
AHEAD = 32
"""Rows whose images are checked ahead of the one that is asked for; the same on every machine."""
WORKERS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row: a sample whose images decode, or what is wrong with it."""

    file: str
    row: int
    style: Style | None
    """How its columns were read; None for the world and for what is not JSON."""
    columns: tuple[str, ...] = ()
    """The columns that the row has and the style reads."""
    sample: Sample | None = None
    problem: Problem | None = None


def read_rows(
    source: str,
    split: str,
    config: ReadConfig | None = None,
    *,
    size: int | None = None,
    seed: int = 0,
    graded: bool = False,
    store: ImageStore | None = None,
) -> Iterator[RowResult]:
    """Every row of a source in order, streamed. Raises DataError for a source that cannot be read at all.

    `source` is `world:DOMAINS[:traces]`, a path, or a Hugging Face name; `size` is the world's; with `graded` a row
    without a gold answer is bad. Images are decoded once, to check them, by a thread a core, and not kept; encoded ones
    that are no files go to `store`.
    """
    config = config or ReadConfig()
    if is_world(source):
        yield from _world_rows(source, split, size, seed)
        return
    raw, root = _open(source, split, config)
    head, style = _probe(raw, config.style, source)

    def read(row: RawRow) -> RowResult:
        return _read_row(row, style, root, config, store, graded)

    yield from _in_order(read, chain(head, raw))


def load_samples(
    source: str,
    split: str,
    size: int | None,
    seed: int,
    *,
    config: ReadConfig | None = None,
    quarantine: Quarantine | Path | None = None,
    graded: bool = False,
) -> list[Sample]:
    """The first `size` good samples of a source; bad rows go to `quarantine`.

    With `graded` (RL and evaluation) a row without a gold answer is bad. Raises DataError where the source cannot be
    read, or where more than `data.max_bad_share` of its rows are bad.
    """
    config = config or ReadConfig()
    samples: list[Sample] = []
    problems: list[Problem] = []
    last: RowResult | None = None
    rows = read_rows(source, split, config, size=size, seed=seed, graded=graded, store=ImageStore())
    for result in rows if size is None else _until(rows, size):
        if result.sample is not None:
            samples.append(result.sample)
            last = result
        elif result.problem is not None:
            problems.append(result.problem)
    count = len(samples) + len(problems)
    if not count:
        raise DataError(f"{source} has no rows")
    if not samples and all(p.reason == "missing_column" for p in problems):
        raise DataError(f"{source}: in every row {problems[0].detail}. {expectations(config.style)}")
    if last is not None and last.style is not None:
        columns = ", ".join(last.columns)
        _say(f"{source}: {count:,} row{'s' * (count != 1)} in {last.style.title} columns ({columns})")
    as_quarantine(quarantine).report(source, problems, config.max_bad_share, rows=count)
    if not samples:
        raise DataError(f"{source}: no good row is left of {count:,}: {problems[0]}")
    return samples


def _until(rows: Iterator[RowResult], size: int) -> Iterator[RowResult]:
    """Rows up to and including the `size`-th good one."""
    good = 0
    for result in rows:
        yield result
        good += result.sample is not None
        if good == size:
            return


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


# --- sources -> raw rows


def _world_rows(source: str, split: str, size: int | None, seed: int) -> Iterator[RowResult]:
    if size is None:
        raise DataError(f"{source!r} is endless: give a size (data.train_size, data.val_size or eval.size)")
    try:
        samples = world_samples(source, split, size, seed)
    except ValueError as error:
        raise DataError(str(error)) from None
    yield from (RowResult(source, i, None, sample=sample) for i, sample in enumerate(samples, start=1))


def _open(source: str, split: str, config: ReadConfig) -> tuple[Iterator[RawRow], Path]:
    """(the rows, the folder that image paths are confined in)."""
    path = Path(source).expanduser()
    if path.exists():
        root = Path(config.image_root) if config.image_root else (path if path.is_dir() else path.parent)
        return read_files(path, split), root
    if not is_hub_name(source):
        raise DataError(f"no data at {source!r}; give a file, a folder, world:DOMAINS[:traces] or org/name")
    if not config.allow_download:
        raise DataError(
            f"no data at {source!r}; if it is the name of a Hugging Face data set, set data.allow_download=true to "
            "fetch it"
        )
    rows, root = open_hub(source, split)
    return rows, Path(config.image_root) if config.image_root else root


def _probe(raw: Iterator[RawRow], stated: str, source: str) -> tuple[list[RawRow], Style]:
    """(the rows that were read for it, the style of the source)."""
    head: list[RawRow] = []
    known: list[Row] = []
    for row in raw:
        head.append(row)
        if not isinstance(row.data, RowError):
            known.append(row.data)
        if len(known) == PROBE:
            break
    if not head:
        raise DataError(f"{source} has no rows")
    if not known:
        raise DataError(f"{source}: none of the {len(head):,} rows is JSON: row {head[0].row}: {head[0].data}")
    return head, recognise(known, stated, source)


def _in_order(work: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
    """Results in the order of the items, made by a few threads a little ahead."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="rows") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# --- raw rows -> samples


def _read_row(
    raw: RawRow, style: Style, root: Path, config: ReadConfig, store: ImageStore | None, graded: bool
) -> RowResult:
    if isinstance(raw.data, RowError):
        return RowResult(raw.file, raw.row, None, problem=problem(raw.file, raw.row, raw.default_id, raw.data))
    columns = tuple(c for c in style.columns if raw.data.get(c) is not None)
    try:
        sample = to_sample(raw.data, raw.default_id, root, style=style, config=config, store=store, graded=graded)
    except RowError as error:
        found = problem(raw.file, raw.row, raw.data.get("id") or raw.default_id, error)
        return RowResult(raw.file, raw.row, style, columns, problem=found)
    sample.meta.update(file=raw.file, row=raw.row)
    return RowResult(raw.file, raw.row, style, columns, sample=sample)


def to_sample(
    row: Row,
    default_id: str,
    root: Path | None,
    *,
    style: Style = STYLES[-1],
    config: ReadConfig | None = None,
    store: ImageStore | None = None,
    graded: bool = False,
) -> Sample:
    """One row -> Sample. Raises RowError with what was expected and found."""
    config = config or ReadConfig()
    fields = read_fields(row, style)
    choices, answer = _gold(fields, row)
    _require(answer, fields, row, style, graded)
    _check_marks(fields, choices)
    given: dict[str, Any] = {"max_pixels": config.max_pixels, "allow_urls": config.allow_urls, "store": store}
    difficulty = row.get("difficulty") or _inside(fields.meta.get("extra_info"), "difficulty")
    return Sample(
        id=str(row.get("id") or default_id),
        question=fields.question,
        images=tuple(check_image(image, root, **given) for image in fields.images),
        answer=answer,
        choices=choices,
        domain=str(row.get("domain") or fields.meta.get("data_source") or "default"),
        difficulty=str(difficulty or "normal"),
        response=fields.response,
        meta=fields.meta,
        system=fields.system,
    )


def _inside(table: Any, key: str) -> Any:
    return table.get(key) if isinstance(table, dict) else None


def _require(answer: str, fields: Fields, row: Row, style: Style, graded: bool) -> None:
    """RL and evaluation need a gold answer, SFT a response or an answer."""
    if answer or (fields.response and not graded):
        return
    needs = "a non-empty 'answer'" + ("" if graded else " (for RL and evaluation) or a 'response' (for SFT)")
    wanted = style.gold if graded else (*style.gold, *style.reply)
    if wanted and all(row.get(column) is None for column in wanted):
        found = found_columns(name for name, value in row.items() if value is not None)
        raise RowError("missing_column", f"{style.title} columns need {needs}: {' or '.join(wanted)}; {found}")
    raise RowError("empty_gold", f"needs {needs}")


def _check_marks(fields: Fields, choices: Sequence[str]) -> None:
    marks = sum(text.count(IMAGE_MARK) for text in (fields.question, *choices))
    if marks and marks != len(fields.images):
        raise RowError(
            "image_count", f"the question has {marks} <image> marks but there are {len(fields.images)} images"
        )


def _gold(fields: Fields, row: Row) -> tuple[tuple[str, ...], str]:
    """(choices, the gold answer: a letter where there are choices, "" where there is none)."""
    choices = _choices(row)
    gold = fields.answer
    if gold is None or gold == "":
        return choices, ""
    if not isinstance(gold, str | int | float):
        raise RowError("bad_gold", f"gold answer: expected text or a number, found {type(gold).__name__}")
    if (isinstance(gold, float) and math.isnan(gold)) or not str(gold).strip():
        raise RowError("empty_gold", f"gold answer: expected text or a number, found {gold!r}")
    try:
        answer = validate_gold(gold, choices=choices)
    except ValueError as error:
        twice = len({" ".join(choice.split()) for choice in choices}) < len(choices)
        reason = "bad_choices" if twice else "gold_outside_choices" if choices else "bad_gold"
        raise RowError(reason, str(error)) from None
    return choices, (gold_letter(answer, choices) or answer) if choices else answer


def _choices(row: Row) -> tuple[str, ...]:
    options = row.get("choices") or row.get("options") or ()
    if isinstance(options, dict):  # {"A": "red", "B": "blue"}; Parquet fills absent letters with None
        options = [options[letter] for letter in LETTERS if options.get(letter) is not None]
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise RowError("bad_choices", f"'choices' must be a list of texts, not the text {str(options)[:40]!r}")
    choices = tuple(str(choice) for choice in options)
    if len(choices) > len(LETTERS):
        raise RowError("bad_choices", f"{len(choices)} choices; at most {len(LETTERS)} have a letter")
    return choices


# --- order, and whether the data are those of an earlier start


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a function of (seed, epoch) alone, so that a resumed run finds its place."""
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


def endless_order(count: int, seed: int, start: int = 0) -> Iterator[int]:
    """Indices epoch after epoch, beginning at position `start` of the whole sequence."""
    epoch, offset = divmod(start, count)
    while True:
        yield from shuffled(count, seed, epoch)[offset:]
        epoch, offset = epoch + 1, 0


def fingerprint(samples: Sequence[Sample]) -> str:
    """A hash of everything that a run learns from: texts, golds, images and their order."""
    digest = hashlib.sha256()
    for s in samples:
        images = [i.sha256 if isinstance(i, ImageRef) else hashlib.sha256(i.tobytes()).hexdigest() for i in s.images]
        digest.update(
            repr((s.id, s.system, s.question, s.answer, s.choices, s.response, images)).encode("utf-8", "replace")
        )
    return digest.hexdigest()


def refuse_changed_data(folder: Path, samples: Sequence[Sample], *, resuming: bool) -> None:
    """Remember the run's data; raises DataError where a resumed run would go on with others."""
    path, now = folder / "data.sha256", fingerprint(samples)
    before = path.read_text(encoding="utf-8").strip() if resuming and path.is_file() else now
    if before != now:
        raise DataError(
            f"cannot resume {folder}: the data are not those that the run started with; restore them, choose another "
            f"out, delete {path} to go on with the new ones, or add --allow data"
        )
    write_text(path, now + "\n")
