"""Samples with a control picture, blank or taken from another sample, with which the blindness guard compares."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from seethink.core.types import ImageRef, Sample

GREY = (128, 128, 128)


def blanked(sample: Sample) -> Sample:
    """The sample with mid-grey pictures of the same sizes."""
    return replace(sample, images=tuple(Image.new("RGB", image.size, GREY) for image in sample.images))


def swapped(samples: Sequence[Sample], seed: tuple[int, ...]) -> list[Sample | None]:
    """Each sample with the pictures of another sample.

    None where every other sample has equal pictures or another number of them.
    """
    partners = derangement([_digest(s) for s in samples], [_sizes(s) for s in samples], seed)
    return [
        None if partner is None else replace(sample, images=samples[partner].images)
        for sample, partner in zip(samples, partners, strict=True)
    ]


def _sizes(sample: Sample) -> tuple[tuple[int, int], ...]:
    """Pictures of the same sizes take the same number of tokens."""
    return tuple(image.size for image in sample.images)


def _digest(sample: Sample) -> str:
    return " ".join(_image_digest(image) for image in sample.images)


def _image_digest(image: Image.Image | ImageRef) -> str:
    """A digest of the pixels, or of the file where the picture is a reference to one."""
    if not isinstance(image, Image.Image):
        return image.sha256
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def derangement(
    digests: Sequence[str], sizes: Sequence[tuple[tuple[int, int], ...]], seed: tuple[int, ...]
) -> list[int | None]:
    """For each place a partner with a different digest: of the same sizes if there is one, else of as many pictures.

    The partners are a permutation unless one picture makes up more than half of all those of its size; then some
    partners serve twice. None where there is no partner.
    """
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(digests))]
    partners: list[int | None] = [None] * len(digests)
    for size in dict.fromkeys(sizes):
        members = [i for i in order if sizes[i] == size]
        others = [i for i in order if sizes[i] != size and len(sizes[i]) == len(size)]
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
