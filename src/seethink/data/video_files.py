"""Frames of mp4 and webm files, decoded by PyAV (extra `[video]`).

Files are untrusted. FFmpeg is told which of the two formats it reads, and reads it from an open file: it follows no
address and opens no other file. Times of frames come from the packets, not from what the header says of them, so that
nothing is decoded before frames are chosen; every part of a file is decoded once at most, by one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from seethink.core.errors import UserError
from seethink.data.quarantine import RowError

FORMATS = {b"ftyp": "mp4", b"\x1aE\xdf\xa3": "matroska"}
"""FFmpeg's readers, by what a file has at its fifth or first byte."""
DECODERS = ("h264", "hevc", "libdav1d", "av1", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4")
"""Of FFmpeg; the others are not opened."""
_OPTIONS = {"codec_whitelist": ",".join(DECODERS)}
MAX_FRAMES = 200_000
"""In a file: nearly two hours at 30 a second."""
MAX_STREAMS = 16
"""Of pictures, sounds and subtitles."""
_ROOM = 1_000_000
"""Pixels."""
_TURNED = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
"""By degrees counterclockwise, the sense in which files say how they were held."""


class DecoderError(UserError):
    """There is no decoder on this machine."""


class VideoError(RowError):
    """A video that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Track:
    """When the frames of a video file are shown."""

    places: tuple[int, ...]
    """Of each frame, in units of `unit`, ascending."""
    keys: tuple[int, ...]
    """Of the frames from which decoding may begin, ascending."""
    unit: Fraction
    """Seconds."""
    rate: Fraction | None
    """Frames a second as the header says; for a video of one frame alone."""

    def seconds(self, number: int) -> float:
        """When a frame is shown, from the first."""
        return float((self.places[number] - self.places[0]) * self.unit)

    @property
    def duration(self) -> float:
        """Seconds, the last frame being shown as long as the others on average."""
        count = len(self.places)
        if count == 1:
            return float(1 / self.rate) if self.rate else 1.0
        return self.seconds(count - 1) * count / (count - 1)

    def cue(self, number: int) -> Cue:
        """Where a frame is found."""
        place = self.places[number]
        return Cue(place, self.keys[max(0, bisect_right(self.keys, place) - 1)] if self.keys else self.places[0])


class Cue(NamedTuple):
    """A frame of a file, and the frame from which decoding begins for it."""

    place: int
    key: int


def is_video(start: bytes) -> bool:
    """Whether a file of these first bytes is mp4 or webm."""
    return _format(start) is not None


def read_track(file: BinaryIO, name: str, *, max_pixels: int) -> Track:
    """Which frames a file has, without decoding one. Raises VideoError, and DecoderError without PyAV."""
    with _opened(file, name, max_pixels) as (container, stream):
        _refuse_large(stream, 1, name, max_pixels, max_pixels)
        packets = [
            (packet.pts, packet.is_keyframe)
            for packet in _at_most(container.demux(stream), name)
            if packet.pts is not None and not packet.is_discard
        ]
        unit, rate = stream.time_base, stream.average_rate
    if not packets:
        raise VideoError("video_unreadable", f"{name!r} has no frame")
    places = sorted({place for place, _ in packets})
    return Track(tuple(places), tuple(sorted({place for place, is_key in packets if is_key})), unit, rate)


def read_frames(
    file: BinaryIO, name: str, cues: Sequence[Cue], *, max_pixels: int, most_pixels: int
) -> list[Image.Image]:
    """These frames of a file, which ascend, as RGB pictures of one size.

    Raises VideoError for a damaged file, for frames of more than `max_pixels` or of several sizes, and for more than
    `most_pixels` in all.
    """
    with _opened(file, name, max_pixels) as (container, stream):
        _refuse_large(stream, len(cues), name, max_pixels, most_pixels)
        frames: list[Image.Image] = []
        decoded: Iterator[Any] = iter(())
        for before, cue in pairwise((None, *cues)):
            assert cue is not None
            if before is None or cue.key > before.place:
                container.seek(cue.key, stream=stream)
                decoded = container.decode(stream)
            frame = next((f for f in decoded if f.pts is not None and f.pts >= cue.place), None)
            if frame is None or frame.is_corrupt:
                raise VideoError("video_unreadable", f"{name!r} is damaged: frame {len(frames) + 1} is not whole")
            frames.append(_picture(frame))
            if frames[-1].size != frames[0].size:
                sizes = " and ".join("x".join(map(str, f.size)) for f in (frames[0], frames[-1]))
                raise VideoError("video_unreadable", f"{name!r} has frames of {sizes}; all must have one size")
    return frames


def _picture(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image()
    turned = _TURNED.get(round(frame.rotation) % 360)
    return picture if turned is None else picture.transpose(turned)


def _refuse_large(stream: Any, count: int, name: str, max_pixels: int, most_pixels: int) -> None:
    """Raises VideoError for what the header says of the frames."""
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > max_pixels:
        raise VideoError("video_too_large", f"{name!r} has frames of {pixels:,} pixels, over data.max_pixels")
    if pixels * count > most_pixels:
        said = f"{count} frames of {name!r} have {pixels * count:,} pixels, over {most_pixels:,}"
        raise VideoError("video_too_large", f"{said}; take fewer (data.video_frames) or scale the video down")


def _at_most(packets: Iterator[Any], name: str) -> Iterator[Any]:
    for number, packet in enumerate(packets):
        if number > MAX_FRAMES:
            raise VideoError("video_too_large", f"{name!r} has over {MAX_FRAMES:,} frames; cut it into clips")
        yield packet


@contextmanager
def _opened(file: BinaryIO, name: str, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """(container, its video stream). Whatever FFmpeg raises over the file is a VideoError."""
    try:
        import av
    except ImportError:
        said = "needs PyAV to be decoded: pip install 'seethink[video]', or give its frames as images"
        raise DecoderError(f"the video {name!r} {said}") from None
    file.seek(0)
    kind = _format(file.read(8))
    file.seek(0)
    if kind is None:
        raise VideoError("video_unreadable", f"{name!r} is neither mp4 nor webm")
    # A frame may grow in the midst of a file, and FFmpeg may decode one to learn its form. Room around it counts too.
    limit = {"max_pixels": str(4 * max_pixels + _ROOM)}
    settings: dict[str, Any] = {
        "metadata_errors": "replace",
        "options": _OPTIONS,
        "stream_options": [limit] * MAX_STREAMS,
    }
    try:
        with av.open(file, mode="r", format=kind, **settings) as container:
            if len(container.streams) > MAX_STREAMS:
                raise VideoError("video_unreadable", f"{name!r} has {len(container.streams)} streams")
            if not container.streams.video:
                raise VideoError("video_unreadable", f"{name!r} has no video stream")
            stream = container.streams.video[0]
            if (decoder := stream.codec_context.name) not in DECODERS:
                said = f"{name!r} is coded as {decoder}; expected one of {', '.join(DECODERS)}"
                raise VideoError("video_unreadable", said)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = limit
            yield container, stream
    except UserError:
        raise
    except Exception as error:  # FFmpeg has an error for everything, PyAV a class for each, and some are plain ones
        if isinstance(error, MemoryError) and not isinstance(error, av.FFmpegError):
            raise
        said = " ".join(f"{error or type(error).__name__}".split())[:120]
        raise VideoError("video_unreadable", f"{name!r} cannot be decoded: {said}") from None


def _format(start: bytes) -> str | None:
    return FORMATS.get(start[:4]) or FORMATS.get(start[4:8])
