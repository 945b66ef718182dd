"""Chat turns and their content blocks -> question, response, system text, images and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seethink.data.fields import IMAGE_MARK, VIDEO_MARK, Fields, Row, first_filled
from seethink.data.image_columns import column_images
from seethink.data.quarantine import RowError
from seethink.data.values import as_text, chat_from_json, from_json, shown
from seethink.data.video_columns import column_videos

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_CARRIERS = ("image_url", "source", "image", "url", "path", "base64", "bytes")
"""Keys under which an image block may hold its image."""
_VIDEO_CARRIERS = ("video", "video_url", "source", "url", "path", "bytes", "frames")


@dataclass(slots=True)
class _Marks:
    """What stands where in a turn: an entry for each mark, the image or the video itself, or None."""

    images: list[Any] = field(default_factory=list)
    videos: list[Any] = field(default_factory=list)

    def add_text(self, text: str) -> None:
        self.images += [None] * text.count(IMAGE_MARK)
        self.videos += [None] * text.count(VIDEO_MARK)


def read_turns(row: Row, *columns: str) -> Fields:
    """Question, response, system text, images and videos of the first filled column: a text, or chat turns.

    Raises RowError.
    """
    name, turns = first_filled(row, columns)
    turns = chat_from_json(turns, repr(name))
    images, videos, marks = column_images(row), column_videos(row), _Marks()
    system = as_text(row.get("system"), "'system'")
    if isinstance(turns, str):
        if not turns.strip():
            raise RowError("bad_message", f"{name!r}: the question is empty")
        marks.add_text(turns)
        return Fields(turns, _place(marks.images, images), _place_videos(marks.videos, videos), system=system)
    contents = _by_role(turns, name)
    question = _text(contents["user"][0], marks)
    systems = [plain_text(content, "system") for content in contents["system"]]
    replies = [plain_text(content, "assistant") for content in contents["assistant"]]
    if not question.strip():
        raise RowError("bad_message", f"{name!r}: the question is empty")
    reply = replies[0] if replies else None
    system = "\n".join(systems) if systems else system
    return Fields(question, _place(marks.images, images), _place_videos(marks.videos, videos), reply, reply, system)


def plain_text(content: Any, role: str) -> str:
    """The text of a turn that may hold no image and no video block. Raises RowError."""
    marks = _Marks()
    text = content if isinstance(content, str) and not _is_blocks(content) else _text(content, marks)
    if marks.images or any(video is not None for video in marks.videos):
        kind = "an image" if marks.images else "a video"
        raise RowError("bad_message", f"the {role} turn holds {kind}; only the user's may")
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


def _text(content: Any, marks: _Marks) -> str:
    """The text of a turn. `marks` receives an entry for each `<image>` and `<video>` in it."""
    if _is_blocks(content):
        content = from_json(content)
    if isinstance(content, str):
        marks.add_text(content)
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


def _block(block: Any, marks: _Marks) -> str:
    """The text of one content block in OpenAI's, Anthropic's or transformers' form."""
    if isinstance(block, str):
        return _text(block, marks)
    if not isinstance(block, Mapping):
        raise RowError("bad_message", f"a content block must be an object, not {type(block).__name__}")
    kind = block.get("type") or ("text" if block.get("text") is not None else "image" if _payload(block) else None)
    if kind in ("text", "input_text", "output_text"):
        return _text(as_text(block.get("text"), "a text block"), marks)
    if kind in ("image", "image_url", "input_image"):
        marks.images.append(_payload(block))
        return IMAGE_MARK
    if kind in ("video", "video_url"):
        marks.videos.append(next((block[key] for key in _VIDEO_CARRIERS if block.get(key)), None))
        return VIDEO_MARK
    if kind in ("audio", "input_audio", "audio_url"):
        said = f"the message has a block of type {kind!r}; only images and videos are supported"
        raise RowError("unsupported_media", said)
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


def _place_videos(marks: list[Any], column: list[Any]) -> list[Any]:
    """As `_place`; without any video, a text may hold `<video>` as a word. Raises RowError."""
    empty = sum(mark is None for mark in marks)
    if not column and empty == len(marks):
        return []
    if not marks:
        return column
    if empty != len(column):
        raise RowError("video_count", f"the question has {empty} <video> marks but there are {len(column)} videos")
    rest = iter(column)
    return [next(rest) if mark is None else mark for mark in marks]
