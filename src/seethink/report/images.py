"""The pictures of a page: read only from inside a stage's folder, each distinct picture stored once."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.core.files import inside, read_file

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
KEPT_BYTES = 150_000
"""Larger files are scaled down and encoded again."""
FILE_BYTES = 40_000_000
PIXELS = 40_000_000
SIDE = 768


class Album:
    """Data URIs by content. `add` returns the picture's index in `uris`, or a sentence that says why there is none."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, folder: Path, relative: Any) -> int | str:
        path = inside(folder, relative)
        if path is None:
            return "image path leads outside the run and was not opened"
        try:
            if path.stat().st_size > FILE_BYTES:
                return "image file is too large to show"
            content = read_file(path)
            return self._keep(hashlib.sha256(content).hexdigest(), content)
        except FileNotFoundError:
            return "image file is missing"
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return "image file could not be read"

    def _keep(self, digest: str, content: bytes) -> int:
        if digest not in self._places:
            self.uris.append(_data_uri(content))
            self._places[digest] = len(self.uris) - 1
        return self._places[digest]

    def forget(self, count: int) -> None:
        """Drop every picture but the first `count`."""
        del self.uris[count:]
        self._places = {digest: place for digest, place in self._places.items() if place < count}


def _data_uri(content: bytes) -> str:
    with Image.open(io.BytesIO(content), formats=list(FORMATS)) as image:
        if image.width * image.height > PIXELS:
            raise ValueError("too many pixels")
        kind = FORMATS[str(image.format)]
        if len(content) > KEPT_BYTES:
            kind, content = "image/webp", _smaller(image)
        else:
            image.load()
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _smaller(image: Image.Image) -> bytes:
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=82)
    return buffer.getvalue()
