"""What goes to a chat model and what comes back. Imports no client library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict


class Message(TypedDict):
    """One turn of a chat: `role` is system, user or assistant."""

    role: str
    content: str | list[dict[str, Any]]
    """Text, or the API's content parts (`text`, `image_url`)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote.

    Example: `Reply("VERDICT: DIFFERENT", "stop")`
    """

    text: str
    finish_reason: str | None
    """`stop`; `length` where `max_tokens` cut the text off; None where the server does not say."""
