"""The options of a multiple-choice row, as their texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seethink.data.fields import LETTERS, Row, first_filled
from seethink.data.image_columns import holds_image
from seethink.data.quarantine import RowError
from seethink.data.values import as_text, from_json, is_empty, shown

COLUMNS = ("choices", "options")
_LABEL = re.compile(r"\s*[(\[（【]?\s*([A-Za-z])\s*(?:[)\].:：．）】]\s*|$)")
_PYTHON_LIST = re.compile(r"\s*\[\s*['\"].*['\"]\s*,?\s*\]\s*", re.S)
_MAX_LIST = 1 << 16
"""Characters."""


@dataclass(frozen=True, slots=True)
class Options:
    """What can be chosen. Example: `Options(("red", "blue"), ("red", "blue"), "choices")`"""

    texts: tuple[str, ...] = ()
    """In the order A, B, C, ..., without letters of their own; empty where the row has no options."""
    shown: tuple[str, ...] = ()
    """Those that the model is shown: none where the row names letters alone, as the question or an image shows them."""
    column: str = COLUMNS[0]


def read_options(row: Row) -> Options:
    """The options of `choices`, of `options`, or of the columns `A`, `B`, ... Raises RowError."""
    column, value = first_filled(row, COLUMNS)
    if is_empty(value):
        letters = letter_columns(row)
        column, value = (f"{letters[0]} to {letters[-1]}", [row[c] for c in letters]) if letters else (column, None)
    entries = _entries(_listed(value), repr(column))
    if len(entries) > len(LETTERS):
        raise RowError("bad_choices", f"{column!r}: {len(entries):,} choices; at most {len(LETTERS)} have a letter")
    if len(entries) == 1:
        raise RowError("bad_choices", f"{column!r}: one choice; expected 2 to {len(LETTERS)}")
    texts = tuple(_text(entry, letter, repr(column)) for letter, entry in zip(LETTERS, entries, strict=False))
    texts = _without_letters(texts)
    return Options(texts, () if texts == tuple(LETTERS[: len(texts)]) else texts, column)


def letter_columns(row: Row) -> list[str]:
    """The columns `A`, `B`, ... that hold one option each; none where a row has no `A` or no `B`."""
    if is_empty(row.get("A")) or is_empty(row.get("B")):
        return []
    last = max(letter for letter in LETTERS if not is_empty(row.get(letter)))
    return [letter for letter in LETTERS if letter <= last and letter in row]


def _listed(value: Any) -> Any:
    """The list or table that a text holds as JSON or as Python writes a list of texts; any other value as it is."""
    found = from_json(value)
    if not isinstance(found, str) or len(found) > _MAX_LIST or not _PYTHON_LIST.fullmatch(found):
        return found
    try:
        return ast.literal_eval(found.strip())  # reads literals alone
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return found


def _entries(value: Any, name: str) -> list[Any]:
    """The options one by one, without the nulls that fill a table's rows up."""
    if isinstance(value, Mapping):
        value = _of_table(value, name)
    if is_empty(value):
        return []
    if not isinstance(value, list | tuple):
        raise RowError("bad_choices", f"{name} must be a list of texts, not {_short(value)}")
    entries = list(value)
    while is_empty(entries[-1]):
        entries.pop()
    empty = next((place for place, entry in enumerate(entries) if is_empty(entry)), None)
    if empty is not None:
        raise RowError("bad_choices", f"{name}: choice {empty + 1} is empty, before one that is not; fill it in")
    return entries


def _of_table(table: Mapping[str, Any], name: str) -> list[Any]:
    """The options of `{"A": "red", "B": "blue"}`, or of `{"label": ["A", "B"], "text": ["red", "blue"]}`."""
    if isinstance(table.get("text"), list) and isinstance(table.get("label"), list):
        table = dict(zip(map(str, table["label"]), table["text"], strict=False))
    named = {str(key).strip().upper(): entry for key, entry in table.items()}
    other = next((key for key in named if key not in LETTERS or len(key) != 1), None)
    if other is not None:
        raise RowError("bad_choices", f"{name}: expected the letters A, B, ... as keys, found {other[:20]!r}")
    last = max((key for key, entry in named.items() if not is_empty(entry)), default="")
    return [named.get(letter) for letter in LETTERS if letter <= last]


def _text(entry: Any, letter: str, name: str) -> str:
    if holds_image(entry):
        said = f"{name}: choice {letter} is an image; write <image> there and give the image in 'images'"
        raise RowError("bad_choices", said)
    return as_text(entry, f"{name}, choice {letter}", "bad_choices")


def _without_letters(texts: tuple[str, ...]) -> tuple[str, ...]:
    """`("A. red", "B. blue")` -> `("red", "blue")`; letters alone, as `("A", "B")`, stay."""
    labels = [_LABEL.match(text) for text in texts]
    if any(label is None or label[1].upper() != letter for label, letter in zip(labels, LETTERS, strict=False)):
        return texts
    rests = tuple(text[label.end() :].strip() for text, label in zip(texts, labels, strict=True) if label)
    if not any(rests):
        return tuple(LETTERS[: len(texts)])
    return rests if all(rests) else texts


def _short(value: Any) -> str:
    return f"the text {value[:40]!r}" if isinstance(value, str) else shown(value)
