"""Open images that come from data sets: confined to a folder, an allow-list of formats, a pixel cap.

Images are untrusted. The header is checked before anything is decoded, and nothing is ever fetched.
"""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seethink.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000


class ImageError(UserError):
    """An image that cannot be used; the message says which and why."""


def open_image(source: Any, root: Path | None) -> Image.Image:
    """An RGB image from a path, bytes, `{"bytes", "path"}` (Hugging Face), a base64 data URI, or a PIL image.

    Paths are relative to `root` and may not leave it, not through a link either. Raises ImageError.
    """
    if isinstance(source, Image.Image):
        return _convert(source)
    if isinstance(source, dict):
        source = source.get("bytes") or source.get("path")
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(bytes(source)), "image bytes")
    if not isinstance(source, str) or not source:
        raise ImageError(f"an image must be a path, bytes or a data: URI, not {type(source).__name__}")
    if source.startswith("data:"):
        return _decode(io.BytesIO(_from_data_uri(source)), "data: URI")
    path = confined(source, root)
    if not path.is_file():
        raise ImageError(f"no image at {source!r} under {root}")
    with path.open("rb") as file:
        return _decode(file, source)


def confined(source: str, root: Path | None) -> Path:
    """The real path of `source` inside `root`. Raises ImageError where it would leave it."""
    if "://" in source:
        raise ImageError(f"{source[:80]!r} is an address; images are never fetched: download them first")
    if root is None:
        raise ImageError(f"image path {source!r} needs data.image_root, the folder that it is relative to")
    base = root.resolve()
    try:
        path = (base / source).resolve()
        path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageError(f"image path {source[:80]!r} cannot be followed: {error}") from None
    if not path.is_relative_to(base):
        raise ImageError(f"image path {source!r} leads out of {root}")
    return path


def _from_data_uri(uri: str) -> bytes:
    try:
        return base64.b64decode(uri.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise ImageError(f"broken base64 in a data: URI: {error}") from None


def _decode(file: Any, name: str) -> Image.Image:
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{name!r} is {width}x{height}, over the cap of {MAX_PIXELS:,} pixels")
            return _convert(image)
    except UnidentifiedImageError:
        raise ImageError(f"{name!r} is not one of {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name!r} cannot be decoded: {error}") from None


def _convert(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")
