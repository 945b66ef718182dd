"""One request to an OpenAI-compatible server and its reply, or an error that says what went wrong."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from seethink.config.endpoint import EndpointConfig
from seethink.endpoint.chat import Chat, ChatSettings, Reply, written
from seethink.endpoint.errors import ServerError
from seethink.endpoint.http import Http

GREEDY = ChatSettings()
_MOST_TOKENS = 10**9
"""A count above this is none."""


class _Message(BaseModel):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None

    @property
    def text(self) -> str:
        """The content, or its text parts: some servers reply with a list of thinking and text parts."""
        return _joined(self.content, "text")

    @property
    def thoughts(self) -> str:
        """What the model thought, where the server keeps it apart: under one of two names, or among the parts."""
        named = (value for value in (self.reasoning_content, self.reasoning) if isinstance(value, str) and value)
        return next(named, "") or (_joined(self.content, "thinking") if isinstance(self.content, list) else "")


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The few fields of a chat completion that matter; anything else in it is ignored."""

    choices: list[_Choice]
    usage: Any = None

    @property
    def reply(self) -> Reply:
        """The first choice. Raises IndexError where there is none."""
        choice = self.choices[0]
        message, usage = choice.message, self.usage if isinstance(self.usage, dict) else {}
        return Reply(
            message.text,
            choice.finish_reason,
            reasoning=message.thoughts,
            refusal=message.refusal if isinstance(message.refusal, str) else "",
            tokens=_count(usage.get("completion_tokens")),
            prompt_tokens=_count(usage.get("prompt_tokens")),
        )


def _joined(content: Any, kind: str) -> str:
    """A text content, or the parts of one kind in a list of parts; "" for anything else."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    found = [part.get(kind) for part in content if isinstance(part, dict) and part.get("type") == kind]
    return "".join(_joined(one, "text") for one in found)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


class Connection:
    """The configured server, without limits or retries: `client.Client` adds these."""

    def __init__(self, config: EndpointConfig) -> None:
        """Raises UserError where `api_key_env` names a variable that holds no usable key."""
        self._config = config
        self._http = Http(config.base_url, key_variable=config.api_key_env)

    def __repr__(self) -> str:
        return f"Connection({self._config.base_url}, {self._config.model})"

    async def complete(self, messages: Chat, settings: ChatSettings = GREEDY) -> Reply:
        """The reply to one chat.

        Raises ServerError (RequestRefusedError for a refusal) or RateLimitedError.
        """
        max_tokens = settings.max_tokens or self._config.max_tokens
        # Enough for max_tokens of escaped JSON and some thinking besides, far from 10 MB.
        most = 65_536 + 64 * max_tokens
        content = self._content(messages, settings, max_tokens)
        body = await self.post("chat/completions", content, most)
        try:
            return _Completion.model_validate_json(body).reply
        except (ValidationError, IndexError):
            raise ServerError(f"not a chat completion: {self.shown(body)}") from None

    async def post(self, route: str, content: bytes, most: int) -> bytes:
        """The body of the reply to `content`, at most `most` bytes, at a route below the address.

        Raises ServerError (RequestRefusedError for a refusal) or RateLimitedError.
        """
        return await self._http.send("POST", route, content, timeout_s=self._config.call_timeout_s, most=most)

    def shown(self, body: bytes) -> str:
        """The start of a body as one printable line without the key."""
        return self._http.shown(body)

    async def close(self) -> None:
        """Close the sockets."""
        await self._http.close()

    def _content(self, messages: Chat, settings: ChatSettings, max_tokens: int) -> bytes:
        chosen = {"top_p": settings.top_p, "seed": settings.seed}
        asked = {
            "model": self._config.model,
            "temperature": settings.temperature,
            "max_tokens": max_tokens,
            "stream": False,
            **{name: value for name, value in chosen.items() if value is not None},
            **settings.extra,
        }
        said = messages if isinstance(messages, bytes) else written(messages)
        return b'{"messages": %b, %b' % (said, json.dumps(asked).encode()[1:])
