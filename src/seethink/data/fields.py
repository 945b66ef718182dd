"""What a row says, in neutral fields, and what a style of columns is: how it is recognised and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seethink.core.types import Sample
from seethink.data.quarantine import escaped
from seethink.data.values import is_empty

Row = Mapping[str, Any]
IMAGE_MARK = "<image>"
VIDEO_MARK = "<video>"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Of the choices, in their order."""
IMAGE_COLUMNS = ("images", "image", "image_paths", "image_path", "imgs", "img")
"""Columns of images, a list or one image, in the order in which they are tried; `image_1`, `image_2`, ... follow."""
VIDEO_COLUMNS = ("videos", "video")
"""Columns of videos, a list or one video, in the order in which they are tried."""
COMMON = (*IMAGE_COLUMNS, *VIDEO_COLUMNS, "choices", "options", "system", "domain", "difficulty", "id")
"""Columns that every style reads."""


@dataclass
class Fields:
    """One row in neutral fields; its texts may hold `<image>` marks, one per image.

    Example: `Fields("<image>How many?", images=["a.png"], answer="3")`
    """

    question: str
    images: list[Any] = field(default_factory=list)
    """Sources for images.py, in the order of the marks."""
    videos: list[Any] = field(default_factory=list)
    """Sources for videos.py, in the order of the `<video>` marks."""
    response: str | None = None
    reply: str | None = None
    """What the assistant says in the row's conversation."""
    system: str = ""
    answer: Any = None
    answer_column: str = "answer"
    """Where the row has its gold answer, for messages."""
    answer_type: Any = None
    """As the row writes it; None where the row does not say."""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Style:
    """One way of writing rows.

    Example: `Style("verl", "verl", (("prompt",), ("reward_model",)), ("reward_model",), (), read)` reads rows that
    have both `prompt` and `reward_model`.
    """

    name: str
    title: str
    needs: tuple[tuple[str, ...], ...]
    """Groups of columns. A row must have one column of each group; the style is recognised by them."""
    gold: tuple[str, ...]
    """Columns of the gold answer. The first column that is filled counts."""
    reply: tuple[str, ...]
    """Columns with a response to imitate."""
    read: Callable[[Row, Style], Fields]
    more: tuple[str, ...] = ()
    """Columns that this style reads besides its own and the common ones."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the style reads."""
        needed = (column for group in self.needs for column in group)
        return tuple(dict.fromkeys((*needed, *self.gold, *self.reply, *COMMON, *self.more)))

    def missing(self, columns: Iterable[str]) -> list[str]:
        """The groups of which no column is present, as `prompt or messages`."""
        present = set(columns)
        return [" or ".join(group) for group in self.needs if not present.intersection(group)]

    def expects(self) -> str:
        """The style's columns as an error message lists them."""
        needs = " + ".join(" or ".join(group) for group in self.needs)
        others = [c for c in (*self.gold, *self.reply) if all(c not in group for group in self.needs)]
        return f"{self.title} ({needs}{' + ' + ' or '.join(others) if others else ''})"


def filled(row: Row) -> list[str]:
    """The names of the columns that hold something, be it blanks."""
    return [name for name, value in row.items() if not is_empty(value) or (isinstance(value, str) and value)]


def first_filled(row: Row, columns: Sequence[str]) -> tuple[str, Any]:
    """(name, value) of the first of `columns` that holds something, be it blanks; else of the first, and None."""
    held = [c for c in columns if row.get(c) is not None]
    full = next((c for c in held if not is_empty(row[c])), None)
    name = full if full is not None else held[0] if held else columns[0]
    return name, row.get(name)


def found_columns(names: Iterable[Any]) -> str:
    """`found columns a, b`, for error messages."""
    shown = sorted({escaped(str(name)[:40]) for name in names})[:30]
    return f"found columns {', '.join(shown)}" if shown else "found no columns"


def without_marks(sample: Sample) -> str:
    """The question without the marks of its images and videos; without videos, `<video>` is a word."""
    text = sample.question.replace(IMAGE_MARK, "")
    return text.replace(VIDEO_MARK, "") if sample.videos else text
