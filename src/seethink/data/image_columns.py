"""Which columns of a row hold its images, which more hold images that nothing reads, and marks with a number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from PIL import Image

from seethink.data.fields import IMAGE_COLUMNS, IMAGE_MARK, Row
from seethink.data.images import is_encoded_image
from seethink.data.quarantine import RowError

_NUMBERED_COLUMN = re.compile(r"image_?(\d{1,2})")
_NUMBERED_MARK = re.compile(r"<image[ _]?(\d{1,2})>")
_PATH = re.compile(r"\S{1,1000}\.(?:png|jpe?g|webp|gif|bmp|tiff?)", re.I)


def column_images(row: Row) -> list[Any]:
    """The images of the first image column that is not empty, else of `image_1`, `image_2`, ... Raises RowError."""
    names = read_columns(row)
    if not names:
        return []
    if names[0] not in IMAGE_COLUMNS:
        return [row[name] for name in names]
    images = row[names[0]]
    return list(images) if isinstance(images, list | tuple) else [images]


def read_columns(row: Row) -> list[str]:
    """The names of the columns that `column_images` reads. Raises RowError."""
    named = next((name for name in IMAGE_COLUMNS if not _is_empty(row.get(name))), None)
    if named is not None:
        return [named]
    numbers = {
        int(match[1]): name
        for name, value in row.items()
        if (match := _NUMBERED_COLUMN.fullmatch(str(name))) and not _is_empty(value)
    }
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        found = ", ".join(numbers[number] for number in sorted(numbers))
        raise RowError("image_count", f"expected the columns image_1, image_2, ... without a gap, found {found}")
    return [numbers[number] for number in sorted(numbers)]


def unread_columns(row: Row, read: Sequence[str]) -> list[str]:
    """The columns that hold images and are not among those `read`."""
    return [str(name)[:40] for name, value in row.items() if name not in read and _holds_image(value)]


def place_numbered(
    question: str, choices: tuple[str, ...], images: list[Any]
) -> tuple[str, tuple[str, ...], list[Any]]:
    """Marks `<image 1>`, `<image 2>`, ... as plain marks, with an image for each in the order of the marks.

    An image that is named twice is shown twice. Texts without numbered marks stay as they are. Raises RowError.

    >>> place_numbered("Is <image 2> like <image 1>?", (), ["a.png", "b.png"])
    ('Is <image> like <image>?', (), ['b.png', 'a.png'])
    """
    texts = (question, *choices)
    numbers = [int(number) for text in texts for number in _NUMBERED_MARK.findall(text)]
    if not numbers:
        return question, choices, images
    if any(IMAGE_MARK in text for text in texts):
        raise RowError("image_count", "the question has <image> marks with and without a number; use one kind")
    if set(numbers) != set(range(1, len(images) + 1)):
        named = ", ".join(f"<image {number}>" for number in sorted(set(numbers)))
        raise RowError("image_count", f"the question has the marks {named} but there are {len(images)} images")
    question, *options = (_NUMBERED_MARK.sub(IMAGE_MARK, text) for text in texts)
    return question, tuple(options), [images[number - 1] for number in numbers]


def _is_empty(value: Any) -> bool:
    """Nothing, an empty text or list, or a list of empty texts."""
    if isinstance(value, list | tuple):
        return all(isinstance(entry, str) and not entry for entry in value)
    return value is None or value == ""


def _holds_image(value: Any) -> bool:
    """Whether a value is an image by its form: a path with an image's suffix, encoded bytes, or a list of them."""
    if isinstance(value, list | tuple):
        return any(_holds_image(entry) for entry in value[:8])
    if isinstance(value, dict):
        return any(_holds_image(value.get(key)) for key in ("bytes", "path", "url", "image"))
    if isinstance(value, str):
        return value.startswith("data:image/") or bool(_PATH.fullmatch(value)) or is_encoded_image(value)
    return isinstance(value, Image.Image) or (isinstance(value, bytes) and is_encoded_image(value))
