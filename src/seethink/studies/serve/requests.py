"""What a client asks, checked: the part of OpenAI's chat completions that one model with one decoder can serve."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.data.fields import IMAGE_MARK
from seethink.data.images import ImageRef, check_image

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")


class RequestError(UserError):
    """The request cannot be served; the message says why, and `status` is HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _ImageUrl(BaseModel):
    url: str


class _Part(BaseModel):
    type: Literal["text", "image_url"]
    text: str = ""
    image_url: _ImageUrl | None = None


class _Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Part]


class ChatRequest(BaseModel):
    """The fields that are read; those of no effect here (`user`, `store`, ...) are ignored, others refused."""

    model_config = ConfigDict(extra="ignore")
    model: str = ""
    messages: list[_Turn] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0)
    n: int = Field(1, ge=1, le=64)
    stream: bool = False
    logprobs: bool = False
    stop: Any = None
    tools: Any = None
    response_format: Any = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be served."""

    request: ChatRequest
    sample: Sample


def read_request(body: bytes) -> Asked:
    """The question of a body. Raises RequestError."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
    for name in ("stop", "tools", "response_format"):
        if getattr(request, name):
            raise RequestError(f"{name} is not supported: leave it out")
    if request.stream and request.n > 1:
        raise RequestError("stream: one choice at a time; leave n out")
    return Asked(request, _sample(request.messages))


def _sample(turns: list[_Turn]) -> Sample:
    """System texts and the one user turn. Raises RequestError for a conversation."""
    users = [turn for turn in turns if turn.role == "user"]
    if len(users) != 1 or turns[-1].role != "user" or any(turn.role == "assistant" for turn in turns):
        raise RequestError("messages: expected system turns and then one user turn; earlier answers are not read")
    images: list[Any] = []
    text = _text(users[0].content, images)
    system = "\n".join(_text(turn.content, []) for turn in turns if turn.role == "system")
    if not text.replace(IMAGE_MARK, "").strip() and not images:
        raise RequestError("messages: the user's turn is empty")
    return Sample("served", text, tuple(images), system=system)


def _text(content: str | list[_Part], images: list[Any]) -> str:
    """The text of a turn, with a mark for each image, whose pictures go to `images`. Raises RequestError."""
    if isinstance(content, str):
        if IMAGE_MARK in content:
            raise RequestError(f"messages: {IMAGE_MARK} as text; give the image as a part of type image_url")
        return content
    pieces = []
    for part in content:
        if part.type == "text":
            pieces.append(_text(part.text, images))
            continue
        images.append(_image(part.image_url.url if part.image_url else ""))
        pieces.append(IMAGE_MARK)
    return "".join(pieces)


def _image(url: str) -> Any:
    if not _DATA_URL.match(url):
        raise RequestError("image_url: expected a data: URL of base64; nothing is fetched")
    try:
        image = check_image(url, None)
    except UserError as error:
        raise RequestError(f"image_url: {error}") from None
    assert isinstance(image, ImageRef)
    return image
