"""Videos of data sets: lists or folders of frames, and mp4 or webm files, of which frames are sampled by one rule.

Frames are bounded as images are: confined to the data's folder, to known formats, to `data.max_pixels` each and
`CLIP_IMAGES` times that together. `check_video` decodes the sampled frames once, so that a damaged video is found
before training, and keeps a reference to them.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from seethink.config import ReadConfig
from seethink.data.image_store import ImageStore, Slice
from seethink.data.images import MAX_BYTES, ImageRef, check_image, confined
from seethink.data.video_files import MAX_FRAMES, Cue, VideoError, is_video, read_frames, read_track

FRAME_RATE = 2.0
"""Frames a second of a list or a folder of frames that does not say its `fps`: the rate at which Qwen-VL samples."""
MAX_VIDEO_BYTES = 4 * MAX_BYTES
"""Of one encoded video."""
CLIP_IMAGES = 4
"""The sampled frames of a video have at most so many times `data.max_pixels` pixels together."""
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_CARRIERS = ("frames", "bytes", "path", "video", "video_url", "url", "folder")


@dataclass(frozen=True)
class FrameFiles:
    """A video whose frames are images of their own.

    Example: `FrameFiles("clips/7", (ImageRef("clips/7/0.png", ...), ...), (0.0, 0.5), 1.0)`
    """

    name: str
    frames: tuple[ImageRef, ...]
    seconds: tuple[float, ...]
    duration: float

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].size

    @property
    def sha256(self) -> str:
        digests = [*(frame.sha256 for frame in self.frames), *map(repr, self.seconds), repr(self.duration)]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def load(self) -> list[Image.Image]:
        """The sampled frames as RGB. Raises ImageError where a file is no longer the one that was checked."""
        return [frame.load() for frame in self.frames]


@dataclass(frozen=True)
class VideoFile:
    """An mp4 or webm file and the places of the frames that were sampled of it."""

    name: str
    size: tuple[int, int]
    seconds: tuple[float, ...]
    duration: float
    digest: str
    """The SHA-256 of the encoded file."""
    cues: tuple[Cue, ...] = field(repr=False)
    """Where the sampled frames are found."""
    path: Path | None = None
    data: bytes | Slice | None = field(default=None, repr=False)
    """The encoded video where it is no file of its own, or its place."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.digest} {[cue.place for cue in self.cues]}".encode()).hexdigest()

    def load(self) -> list[Image.Image]:
        """The sampled frames as RGB. Raises VideoError where the file is no longer the one that was checked."""
        data = self.data.read() if isinstance(self.data, Slice) else self.data
        with _file(self.path if self.path is not None else data or b"", self.name) as file:
            if _digest(file) != self.digest:
                raise VideoError("video_unreadable", f"{self.name!r} has changed since it was checked; start again")
            pixels = self.size[0] * self.size[1]
            return read_frames(file, self.name, self.cues, max_pixels=pixels, most_pixels=pixels * len(self.cues))


def sampled(count: int, duration: float, most: int, fps: float | None = None) -> list[int]:
    """The numbers of the frames that are taken of `count`: evenly spaced, the first and the last among them.

    As many as `most`; with `fps` as many as that rate gives in `duration` seconds, at least two and at most `most`.

    >>> sampled(100, 10.0, 4), sampled(100, 1.5, 16, fps=2.0), sampled(3, 0.1, 16)
    ([0, 33, 66, 99], [0, 50, 99], [0, 1, 2])
    """
    wanted = min(count, most if fps is None else min(most, max(2, round(duration * fps))))
    return [round(place * (count - 1) / max(wanted - 1, 1)) for place in range(wanted)]


def check_video(
    source: Any, root: Path | None, config: ReadConfig, store: ImageStore | None = None
) -> FrameFiles | VideoFile:
    """Sample the frames of a video, decode them once and return a reference to them.

    Sources: a list of frames (as `check_image` takes them), a folder of frames or an mp4 or webm file by its path, the
    bytes of such a file, or a dict of one of these under `frames`, `path`, `video` or `bytes`, with the `fps` of
    frames. Paths are relative to `root` and may not leave it. Raises RowError, and DecoderError where PyAV is missing.
    """
    fps = FRAME_RATE
    if isinstance(source, Mapping):
        fps = _rate(source.get("fps"))
        source = next((source[key] for key in _CARRIERS if source.get(key)), None)
        if isinstance(source, Mapping):
            source = source.get("url")
    if isinstance(source, list | tuple):
        return _check_frames(source, "the list of frames", fps, root, config, store)
    if isinstance(source, bytes | bytearray | memoryview):
        return _check_file(bytes(source), "video bytes", config, store)
    if not isinstance(source, str) or not source:
        kind = type(source).__name__
        raise VideoError("video_source", f"a video must be a path, bytes or a list of frames, not {kind}")
    if "://" in source or source.startswith("data:"):
        said = f"{source[:80]!r} is an address; videos are not fetched: download them first and give their paths"
        raise VideoError("video_source", said)
    path = confined(source, root)
    if path.is_dir():
        assert root is not None
        frames = [str(file.relative_to(root.resolve())) for file in _frames_in(path)]
        return _check_frames(frames, source[:200], fps, root, config, store)
    if path.suffix.lower() in FRAME_SUFFIXES:
        said = f"{source[:200]!r} is an image: the frames of one video are a list of their own, as in [[a.png, b.png]]"
        raise VideoError("video_source", said)
    if not path.is_file():
        raise VideoError("video_missing", f"no video at {source[:200]!r} under {root}")
    return _check_file(path, source[:200], config, store)


def _rate(fps: Any) -> float:
    if fps is None:
        return FRAME_RATE
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not (math.isfinite(fps) and 0 < fps <= 1000):
        raise VideoError("video_source", f"'fps' of a video: expected frames a second, found {str(fps)[:40]!r}")
    return float(fps)


def _check_frames(
    sources: Sequence[Any], name: str, fps: float, root: Path | None, config: ReadConfig, store: ImageStore | None
) -> FrameFiles:
    if not 0 < len(sources) <= MAX_FRAMES:
        raise VideoError("video_source", f"{name!r} has {len(sources):,} frames; expected 1 to {MAX_FRAMES:,}")
    duration = len(sources) / fps
    numbers = sampled(len(sources), duration, config.video_frames, config.video_fps)
    frames: list[ImageRef] = []
    for number in numbers:
        frame = check_image(sources[number], root, max_pixels=config.max_pixels, store=store)
        if not isinstance(frame, ImageRef):
            raise VideoError("video_source", f"frame {number + 1} of {name!r} is no file, path or bytes")
        frames.append(frame)
        if frame.size != frames[0].size:
            sizes = " and ".join("x".join(map(str, f.size)) for f in (frames[0], frame))
            raise VideoError("video_unreadable", f"{name!r} has frames of {sizes}; all must have one size")
        if frame.width * frame.height * len(numbers) > CLIP_IMAGES * config.max_pixels:
            said = f"{len(numbers)} frames of {name!r} have over {CLIP_IMAGES * config.max_pixels:,} pixels"
            raise VideoError("video_too_large", f"{said}; take fewer (data.video_frames) or scale them down")
    return FrameFiles(name, tuple(frames), tuple(number / fps for number in numbers), duration)


def _frames_in(folder: Path) -> list[Path]:
    """The images of a folder in the order of the numbers in their names. Raises VideoError."""
    found: list[Path] = []
    for entry in folder.iterdir():
        if entry.suffix.lower() in FRAME_SUFFIXES:
            found.append(entry)
        if len(found) > MAX_FRAMES:
            raise VideoError("video_too_large", f"{folder.name!r} has over {MAX_FRAMES:,} frames")
    if not found:
        raise VideoError("video_missing", f"the folder {folder.name!r} has no frame ({', '.join(FRAME_SUFFIXES)})")
    return sorted(found, key=lambda file: _by_number(file.name))


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """A key by which `frame_10` comes after `frame_9`."""
    pieces = re.split(r"([0-9]+)", name)
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces if piece]


def _check_file(source: Path | bytes, name: str, config: ReadConfig, store: ImageStore | None) -> VideoFile:
    with _file(source, name) as file:
        if not is_video(file.read(8)):
            raise VideoError("video_unreadable", f"{name!r} is neither mp4 nor webm, nor a folder of frames")
        digest, track = _digest(file), read_track(file, name, max_pixels=config.max_pixels)
        numbers = sampled(len(track.places), track.duration, config.video_frames, config.video_fps)
        cues, largest = tuple(map(track.cue, numbers)), config.max_pixels
        frames = read_frames(file, name, cues, max_pixels=largest, most_pixels=CLIP_IMAGES * largest)
    path, data = (source, None) if isinstance(source, Path) else (None, source)
    return VideoFile(
        name,
        frames[0].size,
        tuple(map(track.seconds, numbers)),
        track.duration,
        digest,
        cues,
        path,
        data if data is None or store is None else store.keep(data, digest),
    )


@contextmanager
def _file(source: Path | bytes, name: str) -> Iterator[BinaryIO]:
    """The encoded video, open. Raises VideoError."""
    size = len(source) if isinstance(source, bytes) else 0
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        size = size or Path(source).stat().st_size if isinstance(source, Path) else size
    except OSError as error:
        raise VideoError("video_missing", f"{name!r} cannot be read: {error.strerror}") from None
    with opened as file:
        if size > MAX_VIDEO_BYTES:
            raise VideoError("video_too_large", f"{name!r} has {size:,} bytes, over {MAX_VIDEO_BYTES:,}")
        yield file


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
