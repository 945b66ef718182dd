"""What the images and videos of a source are like."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.core.types import Sample
from seethink.data.images import ImageRef

_STARTS = ((b"\x89PNG", "PNG"), (b"\xff\xd8", "JPEG"), (b"RIFF", "WEBP"), (b"GIF8", "GIF"), (b"BM", "BMP"))
_SUFFIXES = {"JPG": "JPEG", "TIF": "TIFF"}


@dataclass
class Pictures:
    """Counts and sizes; no picture is kept."""

    widths: array[int] = field(default_factory=lambda: array("l"))
    heights: array[int] = field(default_factory=lambda: array("l"))
    formats: Counter[str] = field(default_factory=Counter)
    per_sample: Counter[int] = field(default_factory=Counter)
    frames: array[int] = field(default_factory=lambda: array("l"))
    """Sampled of each video."""
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """Of each whole video."""
    text_only: int = 0
    """Rows."""

    def add(self, sample: Sample) -> None:
        self.per_sample[len(sample.images)] += 1
        self.text_only += not (sample.images or sample.videos)
        for video in sample.videos:
            self.frames.append(len(video.seconds))
            self.seconds.append(video.duration)
        for image in sample.images:
            width, height = image.size
            self.widths.append(width)
            self.heights.append(height)
            self.formats[_format(image)] += 1

    @property
    def count(self) -> int:
        return len(self.widths)

    @property
    def most_pixels(self) -> int:
        return max((w * h for w, h in zip(self.widths, self.heights, strict=True)), default=0)


def _format(image: object) -> str:
    if not isinstance(image, ImageRef):
        return "drawn by the world"
    if image.data is not None:
        encoded = image.encoded()
        return next((name for start, name in _STARTS if encoded.startswith(start)), "other")
    suffix = Path(image.name).suffix.lstrip(".").upper()
    return _SUFFIXES.get(suffix, suffix)[:8] or "other"


def content_hash(image: object) -> int:
    """64 bits of the encoded file, or of the pixels of a picture without one."""
    if isinstance(image, ImageRef):
        return int(image.sha256[:16], 16)
    assert isinstance(image, Image.Image)
    return _short(f"{image.mode} {image.size}".encode() + image.tobytes())


def question_hash(sample: Sample, images: list[int]) -> int:
    """64 bits of what is asked about what."""
    asked: Any = (" ".join(sample.question.split()), sample.choices, images)
    return _short(repr(asked).encode("utf-8", "replace"))


def _short(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
