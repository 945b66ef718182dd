"""Samples with a control picture or video, blank or of another sample, with which the blindness guard compares."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from seethink.core.types import ImageRef, Sample, VideoRef

GREY = (128, 128, 128)


@dataclass(frozen=True)
class BlankVideo:
    """A video of mid-grey frames.

    Example: `BlankVideo((640, 480), (0.0, 0.5), 1.0)`
    """

    size: tuple[int, int]
    seconds: tuple[float, ...]
    duration: float

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def load(self) -> list[Image.Image]:
        return [Image.new("RGB", self.size, GREY)] * len(self.seconds)


def blanked(sample: Sample) -> Sample:
    """The sample with mid-grey pictures and videos of the same sizes, videos of as many frames at the same times."""
    return replace(
        sample,
        images=tuple(Image.new("RGB", image.size, GREY) for image in sample.images),
        videos=tuple(BlankVideo(video.size, video.seconds, video.duration) for video in sample.videos),
    )


def swapped(samples: Sequence[Sample], seed: tuple[int, ...]) -> list[Sample | None]:
    """Each sample with the pictures and videos of another sample.

    None where every other sample has equal pictures or another number of them.
    """
    partners = derangement([_digest(s) for s in samples], [_sizes(s) for s in samples], seed)
    return [
        None if partner is None else replace(sample, images=samples[partner].images, videos=samples[partner].videos)
        for sample, partner in zip(samples, partners, strict=True)
    ]


def _sizes(sample: Sample) -> tuple[tuple[int, ...], ...]:
    """Pictures of the same sizes take the same number of tokens, and videos of as many frames of the same size."""
    videos = (_shape(video) for video in sample.videos)
    return (*(image.size for image in sample.images), *videos)


def _shape(video: VideoRef) -> tuple[int, int, int]:
    return len(video.seconds), *video.size


def _digest(sample: Sample) -> str:
    return " ".join([*map(_image_digest, sample.images), *(video.sha256 for video in sample.videos)])


def _image_digest(image: Image.Image | ImageRef) -> str:
    """A digest of the pixels, or of the file where the picture is a reference to one."""
    if not isinstance(image, Image.Image):
        return image.sha256
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def derangement(
    digests: Sequence[str], sizes: Sequence[tuple[tuple[int, ...], ...]], seed: tuple[int, ...]
) -> list[int | None]:
    """For each place a partner with a different digest: of the same sizes if there is one, else of as many pictures.

    The partners are a permutation unless one picture makes up more than half of all those of its size; then some
    partners serve twice. None where there is no partner.
    """
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(digests))]
    partners: list[int | None] = [None] * len(digests)
    for size in dict.fromkeys(sizes):
        members = [i for i in order if sizes[i] == size]
        others = [i for i in order if sizes[i] != size and list(map(len, sizes[i])) == list(map(len, size))]
        for i, partner in zip(members, _rotated(members, digests), strict=True):
            choices = [partner, *members, *others]
            partners[i] = next((j for j in choices if digests[j] != digests[i]), None)
    return partners


def _rotated(members: list[int], digests: Sequence[str]) -> list[int]:
    """Each member's partner: members are sorted into blocks of equal pictures and shifted by the largest block."""
    counts = Counter(digests[i] for i in members)
    first = {digest: place for place, digest in enumerate(dict.fromkeys(digests[i] for i in members))}
    blocks = sorted(members, key=lambda i: (-counts[digests[i]], first[digests[i]]))
    shift = max(counts.values())
    partner = {i: blocks[(place + shift) % len(blocks)] for place, i in enumerate(blocks)}
    return [partner[i] for i in members]
