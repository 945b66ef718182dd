"""Questions and pictures of benchmarks, which a training set must not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from seethink.coldstart.lookalikes import alike, look, stacked
from seethink.config import ReadConfig
from seethink.core.text_measures import words
from seethink.core.types import Sample
from seethink.data.dataset import read_rows
from seethink.data.images import ImageRef
from seethink.data.rows import ReadGold

GRAM = 13
"""Words in a row that two independent texts do not share (GPT-3, appendix C)."""
LEAST = 8
"""Words. A shorter question that two data sets share may be anybody's: `How many are red?`"""
COMMON = 20
"""Benchmark questions. Words in a row that more of them share, and over a hundredth, are a phrase of its prompts."""


def grams(text: str) -> set[tuple[str, ...]]:
    """Every 13 words in a row; the whole of a text of 8 to 12 words."""
    found = words(text)
    if len(found) < GRAM:
        return {tuple(found)} if len(found) >= LEAST else set()
    return {tuple(found[start : start + GRAM]) for start in range(len(found) - GRAM + 1)}


@dataclass(slots=True)
class Benchmarks:
    """What the files given with `--against` hold."""

    rows: int = 0
    grams: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Words in a row -> the benchmark row that has them."""
    digests: dict[str, str] = field(default_factory=dict)
    looks: np.ndarray = field(default_factory=lambda: stacked([]))
    places: list[str] = field(default_factory=list)
    """The benchmark row of every look."""

    def text_hit(self, question: str) -> str | None:
        """The benchmark row that has words of the question; None where none has."""
        return next((self.grams[gram] for gram in sorted(grams(question)) if gram in self.grams), None)

    def picture_hits(self, digests: Sequence[str], looks: np.ndarray) -> dict[int, str]:
        """Place of a picture -> the benchmark row that shows it, or one that looks like it."""
        hits = {place: self.digests[digest] for place, digest in enumerate(digests) if digest in self.digests}
        for place, other in alike(looks, self.looks):
            hits.setdefault(place, self.places[other])
        return hits


def read_benchmarks(sources: Iterable[str], config: ReadConfig, golds: ReadGold) -> Benchmarks:
    """The rows of every source; those that cannot be read are left out. Raises DataError for a source of none."""
    found, counts, looks = Benchmarks(), Counter[tuple[str, ...]](), []
    for source in sources:
        for result in read_rows(source, "test", config, golds=golds):
            if result.sample is None:
                continue
            place = f"{Path(result.file).name}, row {result.row}"
            found.rows += 1
            for gram in sorted(grams(result.sample.question)):
                counts[gram] += 1
                found.grams.setdefault(gram, place)
            for digest, picture in zip(*_pictures(result.sample), strict=True):
                found.digests.setdefault(digest, place)
                looks.append(picture)
                found.places.append(place)
    limit = max(COMMON, found.rows // 100)
    found.grams = {gram: place for gram, place in found.grams.items() if counts[gram] <= limit}
    found.looks = stacked(looks)
    return found


def _pictures(sample: Sample) -> tuple[list[str], list[np.ndarray]]:
    digests = [image.sha256 if isinstance(image, ImageRef) else "" for image in sample.images]
    return digests, [look(image) for image in sample.pictures()]


def sources_identity(sources: Iterable[str]) -> list[str]:
    """Every file of the sources with its size and time: another file, or a changed one, has another identity."""
    stamps = ([_stamp(file) for file in _files(Path(source).expanduser())] or [source] for source in sources)
    return list(chain.from_iterable(stamps))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def _stamp(file: Path) -> str:
    about = file.stat()
    return f"{file.absolute()} {about.st_size} {about.st_mtime_ns}"
