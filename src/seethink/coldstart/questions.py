"""Stage 1: a data set -> the questions that a teacher is asked, their pictures, and why the others are not.

A question is left out without a gold answer or with an unreadable picture, where an earlier one asks the same, where
two answers contradict each other, and where a benchmark has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from seethink.coldstart.benchmarks import Benchmarks, read_benchmarks, sources_identity
from seethink.coldstart.lookalikes import Groups, alike, look, look_of_jpeg, stacked
from seethink.config import ReadConfig
from seethink.core import types
from seethink.core.console import Advance, progress_bar, say
from seethink.core.files import WAITING, write_json, write_json_lines
from seethink.core.png import png_bytes
from seethink.core.redact import visible
from seethink.core.types import Sample
from seethink.data.dataset import read_rows
from seethink.data.images import ImageRef, check_image
from seethink.data.quarantine import DataError, RowError, problem
from seethink.data.rows import ReadGold, RowResult
from seethink.runs.reading import read_object, require_lines
from seethink.world.make import is_world

FILE, LEFT_OUT, ABOUT, IMAGES = "questions.jsonl", "left_out.jsonl", "questions.json", "images"
VERSION = 1
"""Changes where the same data give other questions than before."""
_SUFFIXES = {b"\x89PN": "png", b"\xff\xd8\xff": "jpg", b"RIF": "webp", b"GIF": "gif", b"BM": "bmp"}
_PICTURE = re.compile(rf"{IMAGES}/[0-9a-f]{{32}}\.[a-z]{{3,4}}")
_AT_ONCE = 64
"""Rows whose pictures are in memory at one time."""


@dataclass(frozen=True, slots=True)
class Unopened:
    """Stands for a picture where it matters only that there is one: it is not decoded."""

    sha256: str
    size: tuple[int, int] = (1, 1)

    def load(self) -> Image:
        raise AssertionError("nothing looks at this picture")


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it is stored."""

    key: str
    """A hash of everything that a teacher is shown, and of nothing else."""
    id: str
    question: str
    answer: str
    choices: list[str] = field(default_factory=list)
    answer_type: str | None = None
    domain: str = "default"
    difficulty: str = "normal"
    system: str = ""
    images: list[str] = field(default_factory=list)
    """Files below the folder."""
    digests: list[str] = field(default_factory=list)
    """SHA-256 of each file."""
    group: str = ""
    """The key of the first question that shows one of the same pictures; a split keeps groups whole."""
    file: str = ""
    row: int = 0

    @property
    def kind(self) -> str:
        return "multiple choice" if self.choices else "open"

    def sample(self, folder: Path | None) -> Sample:
        """With the gold answer, for the grader; its pictures are those in `folder`, or unopened without one."""
        images: tuple[types.ImageRef | Image, ...] = tuple(map(Unopened, self.digests))
        if folder is not None:
            images = tuple(check_image(name, folder) for name in self.images)
        return Sample(
            id=self.id,
            question=self.question,
            images=images,
            answer=self.answer,
            choices=tuple(self.choices),
            answer_type=self.answer_type,
            domain=self.domain,
            difficulty=self.difficulty,
            system=self.system,
        )

    def asked(self, folder: Path | None) -> Sample:
        """As a teacher is asked: without the gold answer."""
        return replace(self.sample(folder), answer="", answer_type=None)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not asked."""

    id: str
    file: str
    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Questions:
    """What the stage found."""

    kept: list[Question]
    left_out: list[LeftOut]
    about: dict[str, Any]
    """`questions.json`: the source, how it was read, and the counts."""

    @property
    def read(self) -> int:
        return len(self.kept) + len(self.left_out)


def prepare_questions(
    source: str,
    folder: Path,
    config: ReadConfig,
    golds: ReadGold,
    *,
    limit: int | None = None,
    seed: int = 0,
    against: Sequence[str] = (),
) -> Questions:
    """The questions of a source, from the folder where it has them already. `limit`: the first so many rows.

    Raises DataError where the source cannot be read or no question is left.
    """
    identity = questions_identity(source, config, limit=limit, seed=seed, against=against)
    if are_stored(folder, identity):
        return stored_questions(folder)
    benchmarks = read_benchmarks(against, config, golds)
    rows = read_rows(source, "train", config, golds=golds, size=limit, seed=seed, graded=True)
    found, left_out, looks = _read(islice(rows, limit), folder / IMAGES, limit)
    kept, more = _without_repeats(found, looks)
    kept, hits = _without_hits(kept, looks, benchmarks)
    left_out = sorted([*left_out, *more, *hits], key=lambda one: (one.file, one.row))
    if not kept:
        first = f": {left_out[0].file}, row {left_out[0].row}: {left_out[0].detail}" if left_out else ""
        raise DataError(f"{source}: no question is left of {len(left_out):,} rows{first}")
    kept = _grouped(kept, looks)
    about = {"identity": identity, "read": len(kept) + len(left_out), "benchmark_rows": benchmarks.rows}
    for name, records in ((FILE, kept), (LEFT_OUT, left_out)):
        write_json_lines(folder / name, map(asdict, records))
    write_json(folder / ABOUT, about)  # the last: without it the stage begins again
    return Questions(kept, left_out, about)


def questions_identity(
    source: str, config: ReadConfig, *, limit: int | None, seed: int, against: Sequence[str]
) -> dict[str, Any]:
    """Everything that the stage's result depends on."""
    return {
        "version": VERSION,
        "source": source,
        "files": [] if is_world(source) else sources_identity([source]),
        "limit": limit,
        "seed": seed if is_world(source) else 0,
        "against": list(against),
        "against_files": sources_identity(against),
        "data": config.model_dump(mode="json"),
    }


def are_stored(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder has the questions of this identity."""
    return read_object(folder / ABOUT).get("identity") == identity and (folder / FILE).is_file()


def stored_questions(folder: Path) -> Questions:
    """What the stage wrote. Raises RunFileError where it cannot be read."""
    about = read_object(folder / ABOUT)
    if not about:
        raise DataError(f"{folder} has no questions yet: give the command without --refilter first")
    try:
        kept = [Question(**record) for _, record in require_lines(folder / FILE)]
        left_out = [LeftOut(**record) for _, record in require_lines(folder / LEFT_OUT)]
        strange = next((name for one in kept for name in one.images if not _PICTURE.fullmatch(name)), None)
    except TypeError as error:
        raise DataError(f"{folder / FILE} is not what this version writes ({error}): delete {folder / ABOUT}") from None
    if strange is not None:
        raise DataError(
            f"{folder / FILE} names {strange[:80]!r}, which is no picture of the folder: delete {folder / ABOUT}"
        )
    return Questions(kept, left_out, about)


# ---- rows and their pictures


def _read(
    rows: Iterable[RowResult], images: Path, limit: int | None
) -> tuple[list[Question], list[LeftOut], dict[str, np.ndarray]]:
    """(questions, rows that are bad, digest of a picture -> its look)."""
    images.mkdir(parents=True, exist_ok=True)
    found: list[Question] = []
    bad: list[LeftOut] = []
    looks: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, progress_bar("questions", limit or 0) as advance:
        for batch in _batches(rows, advance):
            batch = [_without_videos(result) for result in batch]
            samples = [result.sample for result in batch if result.sample is not None]
            pictures = pool.map(lambda sample: [_kept(image, images) for image in sample.images], samples)
            shown = dict(zip(map(id, samples), pictures, strict=True))
            for result in batch:
                if result.sample is not None:
                    looks |= {digest: seen for _, digest, seen in shown[id(result.sample)]}
                    names = [(f"{IMAGES}/{name}", digest) for name, digest, _ in shown[id(result.sample)]]
                    found.append(_question(result, result.sample, names))
                elif result.problem is not None:
                    said = result.problem
                    bad.append(LeftOut(said.id, said.file, said.row, said.reason, said.detail))
    return found, bad, looks


def _without_videos(result: RowResult) -> RowResult:
    """A row with videos becomes a bad one: they are not sent to teachers."""
    if result.sample is None or not result.sample.videos:
        return result
    error = RowError("unsupported_media", "the row has a video; teachers are asked about images alone")
    return replace(result, sample=None, problem=problem(result.file, result.row, result.sample.id, error))


def _batches(rows: Iterable[RowResult], advance: Advance) -> Iterator[list[RowResult]]:
    rows = iter(rows)
    while batch := list(islice(rows, _AT_ONCE)):
        yield batch
        advance(len(batch), "")


def _question(result: RowResult, sample: Sample, images: list[tuple[str, str]]) -> Question:
    digests = [digest for _, digest in images]
    shown = [sample.system, sample.question, list(sample.choices), digests]
    return Question(
        key=hashlib.sha256(json.dumps(shown).encode("ascii")).hexdigest()[:32],
        id=sample.id,
        question=sample.question,
        answer=sample.answer,
        choices=list(sample.choices),
        answer_type=sample.answer_type,
        domain=sample.domain,
        difficulty=sample.difficulty,
        system=sample.system,
        images=[name for name, _ in images],
        digests=digests,
        file=result.file,
        row=result.row,
    )


def encoded(image: Image | types.ImageRef) -> bytes:
    """The file of a picture as it is, or a PNG of a picture that has none."""
    if isinstance(image, Image):
        return png_bytes(image)
    assert isinstance(image, ImageRef)
    return image.encoded()


def _kept(image: Image | types.ImageRef, folder: Path) -> tuple[str, str, np.ndarray]:
    """(name in the folder, digest, look) of a picture, which is written there with its bytes unchanged."""
    content = encoded(image)
    digest = hashlib.sha256(content).hexdigest()
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), "tiff")
    path = folder / f"{digest[:32]}.{suffix}"
    if not path.exists() or path.stat().st_size != len(content):
        waiting = path.with_name(f".{path.name}-{os.urandom(4).hex()}{WAITING}")  # two rows may show one picture
        waiting.write_bytes(content)
        os.replace(waiting, path)
    if suffix == "jpg" and isinstance(image, ImageRef) and image.sha256 == digest:
        return path.name, digest, look_of_jpeg(content)
    return path.name, digest, look(image if isinstance(image, Image) else image.load())


# ---- repeats and benchmarks


def _text(question: Question) -> str:
    said = "\n".join((question.system, question.question, *question.choices))
    return " ".join(unicodedata.normalize("NFKC", said).casefold().split())


def _without_repeats(found: list[Question], looks: dict[str, np.ndarray]) -> tuple[list[Question], list[LeftOut]]:
    """Each question once: of exact copies and of copies with alike pictures the first, of contradictions none."""
    same: dict[tuple[str, ...], list[Question]] = {}
    for one in found:
        same.setdefault((_text(one), *one.digests), []).append(one)
    out: list[LeftOut] = []
    firsts: list[Question] = []
    for group in same.values():
        first = group[0]
        if len({one.answer for one in group}) > 1:
            other = next(one for one in group if one.answer != first.answer)
            said = f"{Path(other.file).name}, row {other.row}, asks the same and has another answer"
            out += [_left(one, "contradiction", said if one is not other else _of(first)) for one in group]
            continue
        firsts.append(first)
        out += [_left(one, "duplicate", _of(first)) for one in group[1:]]
    copies = _copies(firsts, looks)
    out += [_left(firsts[place], "near_duplicate", _of(firsts[of])) for place, of in copies.items()]
    return [one for place, one in enumerate(firsts) if place not in copies], out


def _copies(firsts: list[Question], looks: dict[str, np.ndarray]) -> dict[int, int]:
    """Place of a question -> an earlier one with the same text and answer, and alike pictures."""
    same: dict[tuple[str, str, int], list[int]] = {}
    for place, one in enumerate(firsts):
        if one.images:
            same.setdefault((_text(one), one.answer, len(one.images)), []).append(place)
    copies: dict[int, int] = {}
    for places in same.values():
        if len(places) < 2:
            continue
        columns = zip(*([looks[digest] for digest in firsts[place].digests] for place in places), strict=True)
        stacks = [stacked(list(column)) for column in columns]
        pairs = [set(alike(stack, stack)) for stack in stacks]
        for later, earlier in sorted(set.intersection(*pairs)):
            if earlier < later and places[earlier] not in copies:
                copies.setdefault(places[later], places[earlier])
    return copies


def _without_hits(
    found: list[Question], looks: dict[str, np.ndarray], benchmarks: Benchmarks
) -> tuple[list[Question], list[LeftOut]]:
    """The questions that no benchmark has."""
    if not benchmarks.rows:
        return found, []
    digests = list(dict.fromkeys(digest for one in found for digest in one.digests))
    stack = stacked([looks[digest] for digest in digests])
    pictures = {digests[place]: where for place, where in benchmarks.picture_hits(digests, stack).items()}
    kept: list[Question] = []
    out: list[LeftOut] = []
    for one in found:
        text = benchmarks.text_hit(one.question)
        picture = next((pictures[digest] for digest in one.digests if digest in pictures), None)
        if text is not None:
            out.append(_left(one, "benchmark_text", f"the words of {text}"))
        elif picture is not None:
            out.append(_left(one, "benchmark_image", f"the picture of {picture}"))
        else:
            kept.append(one)
    return kept, out


def _left(one: Question, reason: str, detail: str) -> LeftOut:
    return LeftOut(one.id, one.file, one.row, reason, detail)


def _of(first: Question) -> str:
    return f"{Path(first.file).name}, row {first.row}, asks the same"


def _grouped(kept: list[Question], looks: dict[str, np.ndarray]) -> list[Question]:
    """The questions with the group of those that share their pictures, or pictures that look alike."""
    digests = list(dict.fromkeys(digest for one in kept for digest in one.digests))
    groups, first = Groups(len(kept)), dict[str, int]()
    alikes = Groups(len(digests))
    stack = stacked([looks[digest] for digest in digests])
    for one, other in alike(stack, stack):
        alikes.join(one, other)
    picture = {digest: digests[alikes.first(place)] for place, digest in enumerate(digests)}
    for place, question in enumerate(kept):
        for digest in question.digests or [_text(question)]:
            groups.join(place, first.setdefault(picture.get(digest, digest), place))
    shared = len(kept) - len({groups.first(place) for place in range(len(kept))})
    if shared:
        say(
            visible(
                f"{shared:,} of {len(kept):,} questions show a picture of an earlier one: a split keeps them together"
            )
        )
    return [replace(one, group=kept[groups.first(place)].key) for place, one in enumerate(kept)]
