"""Images of data sets: confined to a folder, to known formats and to a number of pixels; loaded when needed.

Images are untrusted: the header is checked before anything is decoded, and nothing is fetched unless the recipe allows
it. `check_image` decodes an image once, so that a damaged one is found before training, and keeps a reference to it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seethink.config import MAX_PIXELS
from seethink.core import types
from seethink.data.fetch import FetchError, fetch
from seethink.data.image_store import ImageStore, Member, Slice
from seethink.data.quarantine import RowError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_ASPECT = 200
"""Longest over shortest side. Longer and thinner images crash the processors of Qwen-VL, hours into a run."""
MAX_BYTES = 256_000_000
"""Bytes of one encoded image."""
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
_RANGES = (255, 4095, 65535)
"""The brightest grey of 8, 12 and 16 bits."""
_MIN_BASE64 = 64
"""Characters. Shorter texts are paths."""


class ImageError(RowError):
    """An image that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class ImageRef:
    """An image that was checked and is decoded again when it is needed.

    Example: `ImageRef("photos/a.jpg", (640, 480), "9f86d0...", path=Path("/data/photos/a.jpg"))`
    """

    name: str
    """For messages: the path as the data set writes it, or the kind of its bytes."""
    size: tuple[int, int]
    """(width, height) as shown: after the EXIF orientation."""
    sha256: str
    """Of the encoded file."""
    path: Path | None = None
    data: bytes | Slice | Member | None = field(default=None, repr=False)
    """The encoded image where it is no file of its own, or its place."""

    @property
    def width(self) -> int:
        return self.size[0]

    @property
    def height(self) -> int:
        return self.size[1]

    def encoded(self) -> bytes:
        """The encoded file. Raises ImageError where it is gone."""
        if self.path is not None:
            return _read_file(self.path, self.name)
        if isinstance(self.data, Member):
            return _read_member(self.data)
        return self.data.read() if isinstance(self.data, Slice) else self.data or b""

    def load(self) -> Image.Image:
        """The picture as RGB. Raises ImageError where the file is no longer the one that was checked."""
        data = self.encoded()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ImageError("image_unreadable", f"{self.name!r} has changed since it was checked; start again")
        return _decode(data, self.name, self.width * self.height)


def image_sha256(image: types.ImageRef | Image.Image) -> str:
    """The SHA-256 of the encoded file where the image is a reference, else of the pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest() if isinstance(image, Image.Image) else image.sha256


def check_image(
    source: Any,
    root: Path | None,
    *,
    max_pixels: int = MAX_PIXELS,
    allow_urls: bool = False,
    store: ImageStore | None = None,
) -> ImageRef | Image.Image:
    """Decode an image once and return a reference to it. Sources are those of `open_image`. Raises ImageError.

    An image that is no file of its own is kept in `store`, or in memory without one; a PIL image is returned as RGB.
    """
    if isinstance(source, Image.Image):
        return _convert(source, "an image")
    path, data, name = _find(source, root, allow_urls)
    picture = _decode(data, name, max_pixels)
    digest = hashlib.sha256(data).hexdigest()
    if path is not None:
        return ImageRef(name, picture.size, digest, path)
    if isinstance(source, Member):
        return ImageRef(name, picture.size, digest, data=source)
    return ImageRef(name, picture.size, digest, data=data if store is None else store.keep(data, digest))


def open_image(
    source: Any, root: Path | None, *, max_pixels: int = MAX_PIXELS, allow_urls: bool = False
) -> Image.Image:
    """An RGB image from a path, bytes, base64, a data: URI, an address, a PIL image, or a dict of one of these.

    Dicts are `{"bytes", "path"}` (Hugging Face) and the like. Paths are relative to `root` and may not leave it, nor
    may links in it. Raises ImageError.
    """
    if isinstance(source, Image.Image):
        return _convert(source, "an image")
    _, data, name = _find(source, root, allow_urls)
    return _decode(data, name, max_pixels)


def _find(source: Any, root: Path | None, allow_urls: bool) -> tuple[Path | None, bytes, str]:
    """(path or None, encoded bytes, name)."""
    if isinstance(source, dict):
        source = next((source[key] for key in ("bytes", "base64", "path", "url", "image") if source.get(key)), None)
    if isinstance(source, Member):
        return None, _read_member(source), source.name[:200]
    if isinstance(source, bytes | bytearray | memoryview):
        return None, bytes(source), "image bytes"
    if not isinstance(source, str) or not source:
        kind = type(source).__name__
        raise ImageError("image_source", f"an image must be a path, bytes or a data: URI, not {kind}")
    if source.startswith("data:"):
        return None, _from_base64(source.partition(",")[2], "data: URI"), "data: URI"
    if is_encoded_image(source):
        return None, _from_base64(source, "base64 text"), "base64 text"
    if "://" in source:
        return None, _from_address(source, allow_urls), source[:200]
    path = confined(source, root)
    if not path.is_file():
        raise ImageError("image_missing", f"no image at {source[:200]!r} under {root}")
    return path, _read_file(path, source[:200]), source[:200]


def confined(source: str, root: Path | None) -> Path:
    """The real path of `source` inside `root`. Raises ImageError where it would leave it."""
    if root is None:
        raise ImageError(
            "image_missing", f"image path {source[:80]!r} needs data.image_root, the folder that it is relative to"
        )
    base = root.resolve()
    try:
        path = (base / source).resolve()
        path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageError("image_missing", f"image path {source[:80]!r} cannot be followed: {error}") from None
    if not path.is_relative_to(base):
        raise ImageError("image_outside_root", f"image path {source[:200]!r} leads out of {root}")
    return path


def _read_file(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError("image_too_large", f"{name!r} is over {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ImageError("image_missing", f"{name!r} cannot be read: {error.strerror}") from None


def _read_member(member: Member) -> bytes:
    name = member.name[:200]
    if member.length > MAX_BYTES:
        raise ImageError("image_too_large", f"{name!r} is over {MAX_BYTES:,} bytes")
    try:
        return member.read()
    except OSError as error:
        raise ImageError("image_missing", f"{name!r} in {member.path} cannot be read: {error.strerror}") from None


def _from_address(source: str, allow_urls: bool) -> bytes:
    if not allow_urls:
        raise ImageError(
            "image_address",
            f"{source[:80]!r} is an address; images are not fetched: download them first, or set data.allow_urls",
        )
    try:
        return fetch(source)
    except FetchError as error:
        raise ImageError("image_address", str(error)) from None


def is_encoded_image(value: str | bytes) -> bool:
    """Whether bytes, or a base64 text, begin as an image file does.

    The beginning is decoded, because a path may look like base64: that of a JPEG starts with a slash.
    """
    if isinstance(value, bytes):
        return value.startswith(_MAGIC)
    if len(value) < _MIN_BASE64:
        return False
    try:
        return base64.b64decode(value[:16], validate=True).startswith(_MAGIC)
    except (binascii.Error, ValueError):
        return False


def _from_base64(text: str, name: str) -> bytes:
    if len(text) > MAX_BYTES * 4 // 3:
        raise ImageError("image_too_large", f"{name} of {len(text):,} characters")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("image_unreadable", f"broken base64 in a {name}: {error}") from None


def _decode(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size, name, max_pixels)
            return _convert(image, name)
    except UnidentifiedImageError:
        what = "is empty" if not data else f"is not one of {', '.join(FORMATS)}"
        raise ImageError("image_unreadable", f"{name!r} {what}") from None
    except Image.DecompressionBombError as error:
        raise ImageError("image_too_large", f"{name!r} cannot be decoded: {error}") from None
    except ImageError:
        raise
    except Exception as error:  # hostile files make the format readers raise errors of every kind
        raise ImageError("image_unreadable", f"{name!r} cannot be decoded: {error or type(error).__name__}") from None


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError("image_too_large", f"{name!r} is {width}x{height}, over the cap of {max_pixels:,} pixels")
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise ImageError("image_aspect", f"{name!r} is {width}x{height}: longer than {MAX_ASPECT} times its width")


def _convert(image: Image.Image, name: str) -> Image.Image:
    # No needless copy: making one takes as long as decoding.
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        image = Image.fromarray(_eight_bits(np.asarray(image), name))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image)
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()
    return image


def _eight_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Greys of more than 8 bits, or as fractions, as bytes: by the smallest usual range that holds the brightest.

    Pillow's own conversion cuts everything over 255 off instead of scaling it. Raises ImageError outside the ranges.
    """
    low, high = float(values.min()), float(values.max())
    ranges = (1, *_RANGES) if values.dtype.kind == "f" else _RANGES
    full = next((full for full in ranges if low >= 0 and high <= full), None)
    if full is None:
        said = f"{name!r} has greys from {low:g} to {high:g}, which is no usual range; save it with 8 bits"
        raise ImageError("image_unreadable", said)
    return np.asarray((values * (255 / full)).round(), dtype=np.uint8)
