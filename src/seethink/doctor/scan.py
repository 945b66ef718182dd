"""One source, read once and row by row: everything that the data checks need, and no image kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seethink.config import ReadConfig, SftConfig
from seethink.data.chat import Chat
from seethink.data.columns import Style
from seethink.data.dataset import RowResult, read_rows
from seethink.data.lengths import special_token
from seethink.data.quarantine import Problem, RowError, problem
from seethink.doctor.golds import GoldGrader, Golds
from seethink.doctor.lengths import LengthMeter, Lengths
from seethink.doctor.pictures import Pictures, content_hash, question_hash
from seethink.errors import UserError
from seethink.progress import progress_bar
from seethink.rewards.base import Rewarder
from seethink.types import Sample
from seethink.world.make import is_world

KEPT = 6
"""Samples kept for the trial step, besides the longest."""
WORLD_ROWS = 600
"""Of a world source so many rows are looked at: they are computed, and all alike."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to read, and how the run would."""

    label: str
    """`data.train`, `data.val` or `eval.data`."""
    source: str
    split: str
    size: int | None
    graded: bool
    reading: ReadConfig
    traces: SftConfig | None = None


@dataclass
class Scan:
    """What one source holds. Rows are numbered by their place among the good ones."""

    source: Source
    rows: int = 0
    style: Style | None = None
    columns: tuple[str, ...] = ()
    error: str = ""
    """Why the source could not be read (to its end)."""
    problems: list[Problem] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)
    lengths: Lengths = field(default_factory=Lengths)
    golds: Golds = field(default_factory=Golds)
    questions: array[int] = field(default_factory=lambda: array("Q"))
    """Hash of question and images of each good row."""
    image_hashes: list[tuple[int, ...]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Hash of each good row's answer."""
    places: list[tuple[str, int]] = field(default_factory=list)
    """(file, row) of each good row."""
    ids: dict[str, int] = field(default_factory=dict)
    """Rows by id."""
    kept: list[Sample] = field(default_factory=list)
    longest: Sample | None = None
    longest_tokens: int = 0

    @property
    def good(self) -> int:
        return len(self.places)

    @property
    def text_only(self) -> int:
        return self.pictures.per_sample[0]


def scan(source: Source, chat: Chat | None, rewarder: Rewarder | None) -> Scan:
    """Read a source to its end, or to the `size`-th good row as a run would."""
    found = Scan(source)
    meter = LengthMeter(chat) if chat is not None else None
    traces = (source.traces, chat) if source.traces is not None and chat is not None else None
    grader = GoldGrader(rewarder, found.golds, traces=traces) if rewarder is not None else None
    with progress_bar(f"reading {source.label}", _expected_rows(source)) as advance:
        try:
            for result in _rows(source, found):
                _take(result, found, chat, meter, grader)
                advance(1, f"{len(found.problems):,} bad" if found.problems else "")
        except (UserError, OSError) as error:
            found.error = str(error)
    if grader is not None:
        grader.flush()
    return found


def _rows(source: Source, found: Scan) -> Iterator[RowResult]:
    size = source.size
    if is_world(source.source):
        size = min(size or WORLD_ROWS, WORLD_ROWS)
    rows = read_rows(source.source, source.split, source.reading, size=size, seed=0, graded=source.graded)
    for result in rows:
        found.rows += 1
        yield result
        if size is not None and found.good >= size:
            return


def _take(
    result: RowResult, found: Scan, chat: Chat | None, meter: LengthMeter | None, grader: GoldGrader | None
) -> None:
    found.style = found.style or result.style
    found.columns = max(found.columns, result.columns, key=len)
    if result.problem is not None:
        found.problems.append(result.problem)
        return
    sample = result.sample
    assert sample is not None
    length = 0
    if chat is not None and meter is not None:
        try:
            length = _measure(sample, found, chat, meter)
        except RowError as error:
            found.problems.append(problem(result.file, result.row, sample.id, error))
            return
    _remember(sample, result, found)
    if grader is not None:
        grader.add(sample)
    if found.longest is None or length > found.longest_tokens:
        found.longest, found.longest_tokens = sample, length
    if len(found.kept) < KEPT:
        found.kept.append(sample)


def _measure(sample: Sample, found: Scan, chat: Chat, meter: LengthMeter) -> int:
    """Tokens of the prompt. Raises RowError where the model cannot take it."""
    token = special_token(sample, chat)
    if token is not None:
        raise RowError("special_token", f"the text holds the special token {token!r}; remove or respell it")
    try:
        length, of_images = meter.measure(sample)
    except Exception as error:  # processors raise what they like of images that they do not take
        raise RowError("prompt_refused", f"{type(error).__name__}: {error}") from None
    limit = found.source.reading.max_prompt_tokens
    if limit is not None and length > limit:
        raise RowError("prompt_too_long", f"{length:,} tokens with images, over data.max_prompt_tokens = {limit:,}")
    found.lengths.prompts.append(length)
    found.lengths.image_tokens += of_images
    if sample.response:
        found.lengths.responses.append(len(chat.response_ids(sample.response)))
    return length


def _remember(sample: Sample, result: RowResult, found: Scan) -> None:
    images = [content_hash(image) for image in sample.images]
    found.places.append((result.file, result.row))
    found.image_hashes.append(tuple(images))
    found.questions.append(question_hash(sample, images))
    found.answers.append(hash((sample.answer, sample.response if not sample.answer else "")))
    found.ids[sample.id] = found.ids.get(sample.id, 0) + 1
    found.pictures.add(sample)


def _expected_rows(source: Source) -> Any:
    """For the progress bar. None, which it takes for unknown, where counting would cost as much as reading."""
    if is_world(source.source):
        return min(source.size or WORLD_ROWS, WORLD_ROWS)
    count = _count_rows(source)
    return min(source.size, count) if source.size and count else count


def _count_rows(source: Source) -> int | None:
    path = Path(source.source).expanduser()
    if not path.is_file():
        return None
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return int(pyarrow.parquet.read_metadata(path).num_rows)
        if path.suffix in (".jsonl", ".ndjson"):
            with path.open("rb") as file:
                return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, ValueError):
        pass
    return None
