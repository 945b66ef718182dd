"""Pictures that reveal a rotation or a flip, as files and bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

RED, BLUE = (220, 30, 40), (20, 40, 230)


def picture(width: int = 8, height: int = 4) -> Image.Image:
    """A red picture with a blue top-left corner, so that a rotation shows."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (0, 0, width // 2, height // 2))
    return image


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def near(image: Image.Image, at: tuple[int, int], color: tuple[int, ...], tolerance: int = 12) -> bool:
    return max(abs(a - b) for a, b in zip(image.getpixel(at), color, strict=True)) <= tolerance  # type: ignore[arg-type]


def picture_folder(tmp_path: Path) -> Path:
    """A folder with two pictures; beside it lies a third, which no data set may reach."""
    inside = tmp_path / "data"
    (inside / "sub").mkdir(parents=True)
    picture().save(inside / "in.png")
    picture().save(inside / "sub" / "deep.png")
    picture().save(tmp_path / "secret.png")
    return inside
