"""Clips that tests make: frames in memory, as image files, and as mp4 or webm files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.families import picture

VIDEO_FAMILIES = ("internvl", "qwen2_5_vl", "qwen3_vl", "qwen2_vl", "qwen3_vl_moe")


@dataclass(frozen=True)
class Clip:
    """A video in memory."""

    frames: tuple[Image.Image, ...]
    fps: float = 2.0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(b"".join(frame.tobytes() for frame in self.frames)).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].size

    @property
    def seconds(self) -> tuple[float, ...]:
        return tuple(number / self.fps for number in range(len(self.frames)))

    @property
    def duration(self) -> float:
        return len(self.frames) / self.fps

    def load(self) -> list[Image.Image]:
        return list(self.frames)


def clip(seed: int, count: int, size: tuple[int, int] = (40, 30), fps: float = 2.0) -> Clip:
    """Frames of noise."""
    return Clip(tuple(picture(1000 * seed + number, size) for number in range(count)), fps)


def grey_frame(number: int, count: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A frame whose brightness says which of `count` it is."""
    return Image.new("RGB", size, (round(255 * number / max(count - 1, 1)),) * 3)


def numbers_of(frames: Sequence[Image.Image], count: int) -> list[int]:
    """Which frames of `grey_frame` these are, as compression has left them."""
    return [round(float(np.asarray(frame).mean()) / 255 * (count - 1)) for frame in frames]


def write_frames(folder: Path, count: int, size: tuple[int, int] = (64, 48)) -> list[str]:
    """Numbered PNG files without leading zeros; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"f{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        grey_frame(number, count, size).save(folder / name)
    return names


def write_video(
    path: Path,
    count: int,
    *,
    codec: str = "mpeg4",
    rate: int = 10,
    size: tuple[int, int] = (64, 48),
    options: dict[str, Any] | None = None,
) -> Path:
    """A file of `grey_frame`s, a key frame in every eight."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", 8, 4_000_000
        for number in range(count):
            for packet in stream.encode(av.VideoFrame.from_image(grey_frame(number, count, size))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
