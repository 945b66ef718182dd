"""Which columns of a row hold its images, which more hold images that nothing reads, and marks with a number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.data.fields import IMAGE_COLUMNS, IMAGE_MARK, Row
from seethink.data.image_store import Member
from seethink.data.images import confined, is_encoded_image
from seethink.data.quarantine import RowError
from seethink.data.values import from_json, is_empty

_NUMBERED_COLUMN = re.compile(r"image_?(\d{1,2})")
_NUMBERED_MARK = re.compile(r"<image[ _]?(\d{1,2})>", re.I)
_SUFFIX = r"\.(?:png|jpe?g|jfif|webp|gif|bmp|tiff?|avif|hei[cf]|ico|svg|p[bgnp]m|jp2)(?:[?#]\S*)?"
_PATH = re.compile(rf"\S{{1,1000}}{_SUFFIX}", re.I)
_PATH_WITH_BLANKS = re.compile(rf"[^\n]{{1,1000}}{_SUFFIX}", re.I)
_IMAGE = r"(?:image|img|picture|pic|photo|figure|screenshot|diagram)s?"
_FILE_NAME = re.compile(
    rf".*{_IMAGE}_?\d{{0,2}}_?(?:path|file|file_?name|name|ur[il]|src|bytes|data|base64|b64)s?_?\d{{0,2}}", re.I
)
"""A column of this name holds images, whatever they look like, such as paths without a suffix."""
_OTHER_FORMATS = (b"\0\0\1\0", b"<svg", b"P4\n", b"P5\n", b"P6\n", b"\0\0\0\x0cjP")
_IN_TEXT = re.compile(
    rf"<img>\s*([^<>\n]{{1,1000}}?)\s*</img>|<img\s[^>]{{0,1000}}?src\s*=\s*[\"']?([^\"'\s>]{{1,1000}})"
    rf"|!\[[^\]\n]{{0,1000}}\]\(\s*([^)\n]{{1,1000}}?{_SUFFIX})\s*\)",
    re.I,
)
"""Images that a text names in the form of Qwen-VL, of HTML or of Markdown."""
_DEPTH = 3
_NOTHING = ("none", "null", "nan", "n/a", "na", "false")
"""What tables of text have in the image column of a row without one."""


def column_images(row: Row) -> list[Any]:
    """The images of the first image column that is not empty, else of `image_1`, `image_2`, ... Raises RowError."""
    names = read_columns(row)
    if not names:
        return []
    if names[0] not in IMAGE_COLUMNS:
        return [row[name] for name in names]
    images = from_json(row[names[0]])
    if not isinstance(images, list | tuple):
        return [images]
    found = list(images)
    while _is_nothing(found[-1]):
        found.pop()
    empty = next((place for place, image in enumerate(found, start=1) if _is_nothing(image)), None)
    if empty is not None:
        raise RowError("image_source", f"{names[0]!r}: image {empty} is empty, before one that is not")
    return found


def read_columns(row: Row) -> list[str]:
    """The names of the columns that `column_images` reads. Raises RowError."""
    named = next((name for name in IMAGE_COLUMNS if name in row and not _is_nothing(from_json(row[name]))), None)
    if named is not None:
        return [named]
    numbers = {
        int(match[1]): name
        for name, value in row.items()
        if (match := _NUMBERED_COLUMN.fullmatch(str(name))) and not _is_nothing(value)
    }
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        found = ", ".join(numbers[number] for number in sorted(numbers))
        raise RowError("image_count", f"expected the columns image_1, image_2, ... without a gap, found {found}")
    return [numbers[number] for number in sorted(numbers)]


def unread_columns(row: Row, read: Sequence[str], root: Path | None = None) -> list[str]:
    """The columns that hold images, by their name or by what they hold, and are not among those `read`."""
    unread = {str(name): value for name, value in row.items() if name not in read}
    return [name[:40] for name, value in unread.items() if _is_named_file(name, value) or holds_image(value, root)]


def image_in_text(text: str) -> str | None:
    """The first image that a text names by its file or address, such as `![](a.png)`."""
    found = _IN_TEXT.search(text)
    return next(group for group in found.groups() if group) if found else None


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


def holds_image(value: Any, root: Path | None = None, depth: int = _DEPTH) -> bool:
    """Whether a value is an image by its form: a path with an image's suffix, encoded bytes, or a list of them.

    A text with blanks counts where a file of this name lies under `root`.
    """
    if isinstance(value, list | tuple | dict):
        parts = list(value.values() if isinstance(value, dict) else value)[:8]
        return depth > 0 and any(holds_image(part, root, depth - 1) for part in parts)
    if isinstance(value, str):
        return (
            value.startswith("data:image/")
            or bool(_PATH.fullmatch(value))
            or is_encoded_image(value)
            or (bool(_PATH_WITH_BLANKS.fullmatch(value)) and _is_file(value, root))
        )
    return isinstance(value, Image.Image | Member) or (isinstance(value, bytes) and _is_image_file(value))


def _is_nothing(value: Any) -> bool:
    """Whether an image column holds no image."""
    if isinstance(value, list | tuple):
        return all(_is_nothing(entry) for entry in value)
    return is_empty(value) or value is False or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _is_image_file(data: bytes) -> bool:
    """Whether bytes begin as an image does, be it one that is not read."""
    return is_encoded_image(data) or data.startswith(_OTHER_FORMATS) or data[4:8] == b"ftyp"


def _is_named_file(name: str, value: Any) -> bool:
    """Whether a column is named as one of image files and holds something that may be one."""
    if isinstance(value, list | tuple):
        return any(_is_named_file(name, part) for part in value[:8])
    if not _FILE_NAME.fullmatch(name) or is_empty(value):
        return False
    return isinstance(value, bytes) or (isinstance(value, str) and not re.search(r"\s", value.strip()))


def _is_file(name: str, root: Path | None) -> bool:
    try:
        return root is not None and confined(name, root).is_file()
    except RowError:
        return False
