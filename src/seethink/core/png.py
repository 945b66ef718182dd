"""Pictures as PNG files, which lose nothing."""

from __future__ import annotations

import io

from PIL.Image import Image


def png_bytes(image: Image, *, effort: int = 6) -> bytes:
    """The picture as a file. `effort` is that of compression, 0 to 9: 1 is the fastest that makes it smaller."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=effort)
    return buffer.getvalue()
