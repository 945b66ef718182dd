"""Single values of a row: what holds nothing, what is a text, and what is JSON that was stored as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from numbers import Number
from typing import Any

from seethink.data.quarantine import RowError

_DEPTH = 8
"""Levels of lists and objects that are looked through."""
_MAX_JSON = 1 << 24
"""Characters of a text that is parsed as JSON."""
_LOOKED_AT = 4096
_CHAT = re.compile(
    r"\s*[\"']?\s*[\[{].*[\"'](?:role|from)\\*[\"']\s*:\s*\\*[\"'](?:user|human|assistant|gpt|system)\b", re.S
)
"""A text that begins as a list or an object and has the turns of a chat in it."""
_CHAT_KEYS = ("messages", "conversations", "conversation")


def is_empty(value: Any, depth: int = _DEPTH) -> bool:
    """None, NaN, a blank text, or a list or object of nothing but these: what tables hold where a row has nothing."""
    if value is None:
        return True
    if isinstance(value, str | bytes):
        return not value or (isinstance(value, str) and value.isspace())
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Mapping | list | tuple):
        parts = value.values() if isinstance(value, Mapping) else value
        return not value or (depth > 0 and all(is_empty(part, depth - 1) for part in parts))
    return False


def as_text(value: Any, name: str, reason: str = "bad_message") -> str:
    """A text or a number as text, "" of nothing. Raises RowError for lists and objects, named by `name`."""
    if isinstance(value, str):
        return value
    if is_empty(value):
        return ""
    if isinstance(value, Number):
        return str(value)
    raise RowError(reason, f"{name}: expected a text, found {shown(value)}")


def from_json(value: Any) -> Any:
    """The list or object that a text holds as JSON; any other value as it is.

    >>> from_json('["a.png"]'), from_json("[see figure]")
    (['a.png'], '[see figure]')
    """
    if not isinstance(value, str) or len(value) > _MAX_JSON or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, list | dict) else value


def chat_from_json(value: Any, name: str) -> Any:
    """Chat turns that were stored as JSON text; any other value as it is.

    Raises RowError for a text that begins like chat turns and is no JSON: it would be put to the model as it stands.
    """
    if not isinstance(value, str):
        return value
    found = from_json(value)
    if isinstance(found, dict):
        found = next((found[key] for key in _CHAT_KEYS if isinstance(found.get(key), list)), [found])
    if isinstance(found, list) and found and all(isinstance(t, dict) and ("role" in t or "from" in t) for t in found):
        return found
    if _CHAT.match(value[:_LOOKED_AT]):
        said = f"{name}: a chat as text that cannot be read as JSON; store it as a list of turns, or as JSON"
        raise RowError("bad_message", said)
    return value


def shown(value: Any) -> str:
    """A value as error messages show it: short, and by its type where it is not a plain value."""
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)[:60]
    return type(value).__name__


def broken_character(text: str) -> str | None:
    """`U+D83D` of the first half of a character (a lone surrogate), which no tokenizer takes and no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"U+{ord(text[error.start]):04X}"
    return None
