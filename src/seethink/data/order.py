"""The order in which a run takes its samples, and whether they are the samples that the run started with."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from seethink.core.files import write_text
from seethink.core.types import Sample
from seethink.data.images import image_sha256
from seethink.data.quarantine import DataError


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a function of (seed, epoch) alone, so that a resumed run finds its place."""
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


def question_key(sample: Sample) -> Hashable:
    """Equal for samples that ask the same of the same images and videos."""
    media = (*map(image_sha256, sample.images), *(video.sha256 for video in sample.videos))
    return " ".join(sample.question.split()), sample.choices, media


def held_out(keys: Sequence[Hashable], size: int) -> list[int]:
    """The places of the first `size` samples and of every other one with a key of theirs.

    With the keys of questions, validation and training share none, however many traces a question has.
    """
    first = set(keys[:size])
    return [place for place, key in enumerate(keys) if key in first]


def whole_questions(keys: Sequence[Hashable], places: Sequence[int], most: int) -> list[int]:
    """The first of `places`, at most so many, with every sample of their questions; without such questions, alone.

    Questions that too many samples share are passed over.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    chosen: set[int] = set()
    for place in places:
        group = groups[keys[place]]
        if place not in chosen and len(chosen) + len(group) <= most:
            chosen.update(group)
    return sorted(chosen) or list(places[:most])


def fingerprint(samples: Sequence[Sample], *, domains: bool = False) -> str:
    """A SHA-256 of everything that a run learns from: texts, golds, images, videos and their order.

    `domains`: whether the samples are drawn by the weights of their domains.
    """
    digest = hashlib.sha256()
    for s in samples:
        images = [image_sha256(image) for image in s.images]
        content = [s.id, s.system, s.question, s.answer, s.choices, s.response, images]
        # Samples without a type have the fingerprint of the time before there were types, so that old runs resume.
        content += [s.answer_type] if s.answer_type is not None else []
        content += [[video.sha256 for video in s.videos]] if s.videos else []
        content += [s.domain] if domains else []
        digest.update(repr(tuple(content)).encode("utf-8", "replace"))
    return digest.hexdigest()


def refuse_changed_data(folder: Path, samples: Sequence[Sample], *, resuming: bool, domains: bool = False) -> None:
    """Store the fingerprint of the run's data in its folder.

    Raises DataError where a resumed run would go on with other data than it started with.
    """
    path, now = folder / "data.sha256", fingerprint(samples, domains=domains)
    before = path.read_text(encoding="utf-8", errors="replace").strip() if resuming and path.is_file() else now
    if before != now:
        raise DataError(
            f"cannot resume {folder}: the data are not those that the run started with; restore them, choose another "
            f"out, delete {path} to go on with the new ones, or add --allow data"
        )
    write_text(path, now + "\n")
