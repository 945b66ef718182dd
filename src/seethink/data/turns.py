"""Chat turns and their content blocks -> question, response, system text and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seethink.data.fields import IMAGE_MARK, Fields, Row, first_filled
from seethink.data.image_columns import column_images
from seethink.data.quarantine import RowError
from seethink.data.values import as_text, chat_from_json, from_json, shown

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_CARRIERS = ("image_url", "source", "image", "url", "path", "base64", "bytes")
"""Keys under which an image block may hold its image."""


def read_turns(row: Row, *columns: str) -> Fields:
    """Question, response, system text and images of the first filled column: a text, or chat turns. Raises RowError."""
    name, turns = first_filled(row, columns)
    turns = chat_from_json(turns, repr(name))
    images = column_images(row)
    system = as_text(row.get("system"), "'system'")
    if isinstance(turns, str):
        if not turns.strip():
            raise RowError("bad_message", f"{name!r}: the question is empty")
        return Fields(turns, _place([None] * turns.count(IMAGE_MARK), images), system=system)
    contents = _by_role(turns, name)
    marks: list[Any] = []
    question = _text(contents["user"][0], marks)
    systems = [plain_text(content, "system") for content in contents["system"]]
    replies = [plain_text(content, "assistant") for content in contents["assistant"]]
    if not question.strip():
        raise RowError("bad_message", f"{name!r}: the question is empty")
    reply = replies[0] if replies else None
    return Fields(question, _place(marks, images), reply, reply, "\n".join(systems) if systems else system)


def plain_text(content: Any, role: str) -> str:
    """The text of a turn that may hold no image. Raises RowError."""
    marks: list[Any] = []
    text = content if isinstance(content, str) and not _is_blocks(content) else _text(content, marks)
    if marks:
        raise RowError("bad_message", f"the {role} turn holds an image; only the user's may")
    return text


def _by_role(turns: Any, name: str) -> dict[str, list[Any]]:
    """Contents by role; exactly one question, and at most one answer after it."""
    if not isinstance(turns, Sequence) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError("bad_message", f"{name!r}: expected a text or a list of turns, found {shown(turns)}")
    contents: dict[str, list[Any]] = {"system": [], "user": [], "assistant": []}
    order: list[str] = []
    for turn in turns:
        said = turn.get("role") or turn.get("from")
        role = _ROLES.get(str(said).lower())
        if role is None:
            raise RowError("bad_message", f"{name!r}: unknown role {shown(said)}; expected {', '.join(_ROLES)}")
        order.append(role)
        contents[role].append(turn["content"] if turn.get("content") is not None else turn.get("value"))
    users, assistants = len(contents["user"]), len(contents["assistant"])
    if users > 1 or assistants > 1:
        raise RowError("multi_turn", f"{name!r}: expected one user turn and its answer, found {users} and {assistants}")
    if users == 0:
        raise RowError("bad_message", f"{name!r}: expected one user turn, found 0")
    if assistants and order.index("assistant") < order.index("user"):
        raise RowError("bad_message", f"{name!r}: the assistant speaks before the user")
    return contents


def _text(content: Any, marks: list[Any]) -> str:
    """The text of a turn. `marks` receives an entry for each `<image>` in it: the image itself, or None."""
    if _is_blocks(content):
        content = from_json(content)
    if isinstance(content, str):
        marks += [None] * content.count(IMAGE_MARK)
        return content
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Sequence):
        raise RowError("bad_message", f"message content must be text or a list of parts, not {type(content).__name__}")
    return "".join(_block(block, marks) for block in content)


def _is_blocks(content: Any) -> bool:
    """Whether a text holds content blocks as JSON."""
    found = from_json(content) if isinstance(content, str) else None
    return isinstance(found, list) and bool(found) and all(isinstance(b, dict) and b.get("type") for b in found)


def _block(block: Any, marks: list[Any]) -> str:
    """The text of one content block in OpenAI's, Anthropic's or transformers' form."""
    if isinstance(block, str):
        return _text(block, marks)
    if not isinstance(block, Mapping):
        raise RowError("bad_message", f"a content block must be an object, not {type(block).__name__}")
    kind = block.get("type") or ("text" if block.get("text") is not None else "image" if _payload(block) else None)
    if kind in ("text", "input_text", "output_text"):
        return _text(as_text(block.get("text"), "a text block"), marks)
    if kind in ("image", "image_url", "input_image"):
        marks.append(_payload(block))
        return IMAGE_MARK
    if kind in ("video", "video_url", "audio", "input_audio", "audio_url"):
        raise RowError("unsupported_media", f"the message has a block of type {kind!r}; only images are supported")
    raise RowError("bad_message", f"unknown content block of type {shown(kind)}")


def _payload(block: Mapping[str, Any]) -> Any:
    """The image that a block carries, or None where the block only marks the image's place."""
    carried = next((block[key] for key in _CARRIERS if block.get(key)), None)
    if isinstance(carried, Mapping):
        if carried.get("type") == "base64" or carried.get("data"):  # Anthropic's source
            return f"data:{carried.get('media_type') or ''};base64,{carried.get('data') or ''}"
        return carried.get("url") or (dict(carried) if carried.get("bytes") or carried.get("path") else None)
    return carried


def _place(marks: list[Any], column: list[Any]) -> list[Any]:
    """The images in the order of their marks: a block's own image, else the column's next. Raises RowError."""
    if not marks:
        return column
    empty = sum(mark is None for mark in marks)
    if empty != len(column):
        inside = f" ({len(marks) - empty} more carry their image)" if empty < len(marks) else ""
        raise RowError(
            "image_count", f"the question has {empty} <image> marks{inside} but there are {len(column)} images"
        )
    rest = iter(column)
    return [next(rest) if mark is None else mark for mark in marks]
