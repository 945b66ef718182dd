"""What goes to a chat model and what comes back. Imports no client library."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}


class Message(TypedDict):
    """One turn of a chat: `role` is system, user or assistant."""

    role: str
    content: str | list[dict[str, Any]]
    """Text, or the API's content parts (`text_part`, `image_part`)."""


Chat = Sequence[Message] | bytes
"""The turns of a chat, or as `written` has them: once for many requests about the same pictures."""


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How one reply is sampled.

    Example: `ChatSettings(temperature=1.0, seed=7, max_tokens=16384)`
    """

    temperature: float = 0.0
    top_p: float | None = None
    """None leaves it to the server, as for `seed` and `max_tokens`' default."""
    seed: int | None = None
    """Sent with the request; servers such as vLLM then sample the same tokens again."""
    max_tokens: int | None = None
    """Longest reply in tokens, thinking included; None: the endpoint's own `max_tokens`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request's body, such as `top_k` or `chat_template_kwargs`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote.

    Example: `Reply("VERDICT: DIFFERENT", "stop")`
    """

    text: str
    finish_reason: str | None
    """`stop`; `length` where `max_tokens` cut the text off; None where the server does not say."""
    reasoning: str = ""
    """Thinking that the server returns apart from the text (`reasoning_content` or `reasoning`)."""
    refusal: str = ""
    """Why the model or a filter declined to answer; "" where neither did."""
    tokens: int | None = None
    """Tokens written, thinking included, as the server counts them; None where it does not say."""
    prompt_tokens: int | None = None


def written(messages: Sequence[Message]) -> bytes:
    """The turns as JSON, as they go to the server.

    >>> written([Message(role="user", content="Why?")])
    b'[{"role": "user", "content": "Why?"}]'
    """
    return json.dumps(messages if isinstance(messages, list) else list(messages)).encode()


def text_part(text: str) -> dict[str, Any]:
    """A content part of text."""
    return {"type": "text", "text": text}


def image_part(data: bytes) -> dict[str, Any]:
    """A content part of an image file. Raises ValueError as `data_url` does."""
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


def data_url(data: bytes) -> str:
    """An image file as an address: its bytes go to the server unchanged.

    Raises ValueError for bytes that are no PNG, JPEG, GIF, WebP, BMP or TIFF file.
    """
    media_type = image_media_type(data)
    if media_type is None:
        raise ValueError("expected the bytes of a PNG, JPEG, GIF, WebP, BMP or TIFF file")
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def image_media_type(data: bytes) -> str | None:
    """The media type of an image file, told from its first bytes; None where it is none that servers read.

    >>> image_media_type(b"GIF89a...")
    'image/gif'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
