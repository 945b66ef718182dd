"""One source, read once and row by row: everything that the data checks need, and no image kept."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seethink.config import MixtureSource, ReadConfig, SftConfig
from seethink.core.console import progress_bar
from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.data.dataset import read_rows
from seethink.data.fields import Style
from seethink.data.lengths import special_token, too_long
from seethink.data.mixture import Pool, named, source_of
from seethink.data.quarantine import Problem, RowError, problem
from seethink.data.rows import RowResult
from seethink.doctor.golds import GoldGrader, Golds
from seethink.doctor.lengths import LengthMeter, Lengths
from seethink.doctor.pictures import Pictures, content_hash, question_hash
from seethink.eval.tasks.bench_task import is_bench, load_bench_task
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import is_world

BATCH = 64
"""Rows looked at together."""
KEPT = 6
"""Samples kept for the trial step, besides the longest."""
WORLD_ROWS = 600
"""Of a world source so many rows are looked at: they are computed, and all alike."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to read, and how the run would."""

    label: str
    """`data.train`, `data.val` or `eval.data`; of a mixture `data.mixture NAME`."""
    source: str
    split: str
    size: int | None
    graded: bool
    reading: ReadConfig
    traces: SftConfig | None = None
    entry: MixtureSource | None = None
    """What it is one of, where the training data are a mixture."""


@dataclass
class Scan:
    """What one source holds. Rows are numbered by their place among the good ones."""

    source: Source
    rows: int = 0
    style: Style | None = None
    columns: tuple[str, ...] = ()
    unread_images: set[str] = field(default_factory=set)
    """Columns that hold images besides those that are read."""
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
    pools: Counter[Pool] = field(default_factory=Counter)
    """Good rows by source and domain."""
    kept: list[Sample] = field(default_factory=list)
    longest: Sample | None = None
    longest_tokens: int = 0

    @property
    def good(self) -> int:
        return len(self.places)

    @property
    def text_only(self) -> int:
        return self.pictures.text_only


def scan(source: Source, chat: Chat | None, rewarder: Rewarder | None) -> Scan:
    """Read a source to its end, or to the `size`-th good row as a run would."""
    found = Scan(source)
    reader = _Reader(found, chat, rewarder)
    with progress_bar(f"reading {source.label}", _expected_rows(source)) as advance:
        try:
            for results in _batches(_rows(source)):
                reader.take(results)
                advance(len(results), f"{len(found.problems):,} bad" if found.problems else "")
        except (UserError, OSError) as error:
            found.error = str(error)
    reader.finish()
    return found


def _rows(source: Source) -> Iterator[RowResult]:
    if is_bench(source.source):
        samples = load_bench_task(source.source, None, 0).samples
        yield from (RowResult(source.source, n, None, sample=sample) for n, sample in enumerate(samples, start=1))
        return
    size = min(source.size or WORLD_ROWS, WORLD_ROWS) if is_world(source.source) else source.size
    good = 0
    rows = read_rows(
        source.source, source.split, source.reading, golds=read_gold, size=size, seed=0, graded=source.graded
    )
    for result in rows:
        good += result.sample is not None
        yield result
        if good == size:
            return


def _batches(rows: Iterator[RowResult]) -> Iterator[list[RowResult]]:
    """Rows by the batch; those before an error are handed on first."""
    batch: list[RowResult] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except (UserError, OSError):
        yield batch
        raise
    yield batch


class _Reader:
    """Looks at rows and adds what it sees to a scan."""

    def __init__(self, found: Scan, chat: Chat | None, rewarder: Rewarder | None) -> None:
        self._found, self._chat = found, chat
        self._meter = LengthMeter(chat) if chat is not None else None
        traces = (found.source.traces, chat) if found.source.traces is not None and chat is not None else None
        self._grader = GoldGrader(rewarder, found.golds, traces=traces) if rewarder is not None else None

    def take(self, results: list[RowResult]) -> None:
        found = self._found
        for result in results:
            found.rows += 1
            found.style = found.style or result.style
            found.columns = max(found.columns, result.columns, key=len)
            found.unread_images.update(result.unread_images)
            if result.problem is not None:
                found.problems.append(result.problem)
        entry = found.source.entry
        read = [
            (result, result.sample if entry is None else named(result.sample, entry))
            for result in results
            if result.sample is not None
        ]
        lengths = self._lengths([sample for _, sample in read])
        for (result, sample), length in zip(read, lengths, strict=True):
            if isinstance(length, RowError):
                found.problems.append(problem(result.file, result.row, sample.id, length))
                continue
            _remember(sample, result, found)
            self._keep(sample, length)
            if self._grader is not None:
                self._grader.add(sample)
        found.problems.sort(key=lambda p: (p.file, p.row))

    def finish(self) -> None:
        if self._grader is not None:
            self._grader.flush()

    def _lengths(self, samples: list[Sample]) -> list[int | RowError]:
        """Tokens of each prompt, or why the model cannot take it; 0 without a processor to ask."""
        if self._chat is None or self._meter is None:
            return [0] * len(samples)
        measured = self._meter.measure(samples)
        judged = [self._judge(s, length) for s, length in zip(samples, measured, strict=True)]
        good = [sample for sample, length in zip(samples, judged, strict=True) if not isinstance(length, RowError)]
        self._found.lengths.responses += self._meter.response_lengths(good)
        return judged

    def _judge(self, sample: Sample, measured: tuple[int, int] | Exception) -> int | RowError:
        assert self._chat is not None
        token = special_token(sample, self._chat)
        if token is not None:
            return RowError("special_token", f"the text holds the special token {token!r}; remove or respell it")
        if isinstance(measured, Exception):
            kind = "" if isinstance(measured, UserError) else f"{type(measured).__name__}: "
            return RowError("prompt_refused", f"{kind}{measured}")
        length, of_images = measured
        refused = too_long(length, self._chat, self._found.source.reading)
        if refused is not None:
            return refused
        self._found.lengths.prompts.append(length)
        self._found.lengths.image_tokens += of_images
        return length

    def _keep(self, sample: Sample, length: int) -> None:
        """The first samples and the longest one, for the trial step."""
        found = self._found
        if found.longest is None or length > found.longest_tokens:
            found.longest, found.longest_tokens = sample, length
        if len(found.kept) < KEPT:
            found.kept.append(sample)


def _remember(sample: Sample, result: RowResult, found: Scan) -> None:
    images = [*map(content_hash, sample.images), *(int(video.sha256[:16], 16) for video in sample.videos)]
    found.places.append((result.file, result.row))
    found.image_hashes.append(tuple(images))
    found.questions.append(question_hash(sample, images))
    found.answers.append(hash((sample.answer, sample.response if not sample.answer else "")))
    found.ids[sample.id] = found.ids.get(sample.id, 0) + 1
    found.pools[source_of(sample), sample.domain] += 1
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
