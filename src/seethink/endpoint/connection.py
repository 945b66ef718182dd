"""One request to an OpenAI-compatible server and its reply, or an error that says what went wrong.

The server is not trusted to be brief, quick or well-formed: a reply is read up to a cap and under a deadline,
the body of an error up to a few kilobytes, redirects are refused, and the API key is cut out of every message.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from openai import DefaultAsyncHttpxClient
from pydantic import BaseModel, ValidationError

from seethink.config.endpoint import EndpointConfig
from seethink.core.errors import UserError
from seethink.endpoint.chat import ChatSettings, Message, Reply
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.limits import retry_after_s

_SHOWN_CHARS = 300
_MOST_TOKENS = 10**9
"""A count above this is none."""
_ERROR_BODY_BYTES = 4096
"""More of an error is read than is shown, so that a key in it is found whole and cut out."""


GREEDY = ChatSettings()


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


class _HttpResponse(Protocol):
    """What is used of the HTTP library's response; its package's name differs between openai releases."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    def aiter_bytes(self) -> AsyncIterator[bytes]: ...


class Connection:
    """The configured server, without limits or retries: `client.Client` adds these."""

    def __init__(self, config: EndpointConfig) -> None:
        """Raises UserError where `api_key_env` names a variable that holds no usable key."""
        self._config = config
        self._key = _read_key(config.api_key_env)
        # The library's client proper spends milliseconds of this process on every request; its HTTP client does not.
        self._http = DefaultAsyncHttpxClient(
            # A compressed body could unpack to any size.
            headers={
                "Accept-Encoding": "identity",
                "Authorization": f"Bearer {self._key or 'none'}",
                "Content-Type": "application/json",
            },
            timeout=config.call_timeout_s,
            event_hooks={"response": [self._refuse_errors]},
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"Connection({self._config.base_url}, {self._config.model})"

    async def complete(self, messages: Sequence[Message], settings: ChatSettings = GREEDY) -> Reply:
        """The reply to one chat.

        Raises ServerError (RequestRefusedError for a refusal) or RateLimitedError.
        """
        max_tokens = settings.max_tokens or self._config.max_tokens
        chosen = {"top_p": settings.top_p, "seed": settings.seed}
        asked = {
            "model": self._config.model,
            "messages": list(messages),
            "temperature": settings.temperature,
            "max_tokens": max_tokens,
            "stream": False,
            **{name: value for name, value in chosen.items() if value is not None},
            **settings.extra,
        }
        # Enough for max_tokens of escaped JSON and some thinking besides, far from 10 MB.
        body = await self.post("chat/completions", json.dumps(asked).encode(), 65_536 + 64 * max_tokens)
        try:
            return _Completion.model_validate_json(body).reply
        except (ValidationError, IndexError):
            raise ServerError(f"not a chat completion: {self.shown(body)}") from None

    async def post(self, route: str, content: bytes, most: int) -> bytes:
        """The body of the reply to `content`, at most `most` bytes, at a route below the address.

        Raises ServerError (RequestRefusedError for a refusal) or RateLimitedError.
        """
        try:
            async with asyncio.timeout(self._config.call_timeout_s):
                return await self._body(f"{self._config.base_url}/{route}", content, most)
        except TimeoutError:
            raise ServerError(f"no answer within {self._config.call_timeout_s:g} s") from None

    async def close(self) -> None:
        """Close the sockets."""
        await self._http.aclose()

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[redacted]") if self._key else text

    def shown(self, body: bytes) -> str:
        """The start of a body as one printable line without the key."""
        text = body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")
        printable = "".join(char if char.isprintable() else " " for char in text)
        return self._redact(" ".join(printable.split()))[:_SHOWN_CHARS] or "(empty)"

    async def _body(self, url: str, content: bytes, most: int) -> bytes:
        """POST and read at most the cap. The library's own errors are dropped: they hold the request and its key."""
        body = bytearray()
        try:
            async with self._http.stream("POST", url, content=content) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > most:
                        raise ServerError(f"reply longer than {most} bytes")
        except (ServerError, RateLimitedError):
            raise
        except Exception as error:  # the HTTP library's own errors differ between openai releases
            if type(error).__name__.endswith("Timeout"):
                raise ServerError("timed out") from None
            raise ServerError(self._redact(f"{type(error).__name__}: {first_cause(error)}")) from None
        return bytes(body)

    async def _refuse_errors(self, response: _HttpResponse) -> None:
        """Response hook: turn an error status into our error without reading its body whole."""
        status = response.status_code
        if status < 300:
            return
        wait = retry_after_s(response.headers.get("retry-after"))
        if status == 429:
            raise RateLimitedError(wait)
        message = f"HTTP {status}: {self.shown(await _head(response))}"
        is_refusal = status < 500 and status != 408
        raise RequestRefusedError(message, status=status) if is_refusal else ServerError(message, wait)


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"api_key_env names {variable}, which is not set: export it")
    if not (key.isascii() and key.isprintable()):
        # The HTTP library would refuse it later in an error that quotes it.
        raise UserError(f"the API key in {variable} holds a line break or a character outside ASCII")
    return key


async def _head(response: _HttpResponse) -> bytes:
    head = b""
    async for chunk in response.aiter_bytes():
        head += chunk
        if len(head) >= _ERROR_BODY_BYTES:
            break
    return head


def first_cause(error: BaseException) -> BaseException:
    """The first cause: "connection refused" rather than "connection error"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
