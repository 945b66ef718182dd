"""The client of an OpenAI-compatible server: messages in, a reply out, within its limits and through its outages.

    client = Client(config, role="judge", greeting=lambda: [...], while_down="answers wait")
    text = await client.ask(messages, lambda reply: reply.text)

A client belongs to one event loop; `background.BackgroundLoop` gives synchronous code one. Its limits hold for all
callers together. A 429 costs time but no attempt, every failure is retried with growing pauses, and a server that
fails too often in a row, or asks for more than a minute of silence, is down: nothing is sent until a probe is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from seethink.config.endpoint import EndpointConfig
from seethink.config.teacher import TeacherConfig
from seethink.endpoint.breaker import Breaker
from seethink.endpoint.chat import Chat, ChatSettings, Message, Reply
from seethink.endpoint.connection import GREEDY
from seethink.endpoint.errors import (
    RateLimitedError,
    RequestRefusedError,
    ServerDownError,
    ServerError,
    UnreadableReplyError,
)
from seethink.endpoint.limits import Limiter, backoff_s
from seethink.endpoint.scoring import connect
from seethink.endpoint.token_budget import TokenBudget

T = TypeVar("T")

_LONG_PAUSE_S = 60.0
"""A server that asks for a longer pause than this is down, not busy."""

_LONGEST_PAUSE_S = 600.0
"""A longer pause is cut to this: a broken Retry-After must not keep a healthy server unused for days."""


@dataclass(slots=True)
class Traffic:
    """What happened to the requests since the last reading."""

    retries: int = 0
    rate_limited: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """Seconds of every answered request."""


class Client:
    """One server, with one set of limits for all its callers in this process."""

    def __init__(
        self, config: EndpointConfig, *, role: str, greeting: Callable[[], Sequence[Message]], while_down: str
    ) -> None:
        """`role` and `while_down` go into the log's notices: what the server is, and what its callers do meanwhile.

        `greeting` makes a harmless chat; any reply to it shows that the server works. Raises UserError where
        `api_key_env` names a variable that holds no usable key.
        """
        self._config = config
        self._connection = connect(config)
        self._limiter = Limiter(config.max_concurrency, config.requests_per_minute)
        tokens = config.tokens_per_minute if isinstance(config, TeacherConfig) else None
        self._budget = TokenBudget(tokens) if tokens is not None else None
        server = f"{role} {config.model} at {config.base_url}"
        self._breaker = Breaker(config.max_retries + 1, self._probe, server, while_down)
        self._greeting = greeting
        self._traffic = Traffic()
        self.is_greeted = False
        """Whether the server has answered a greeting."""

    def __repr__(self) -> str:
        return f"Client({self._config.model} at {self._config.base_url})"

    @property
    def is_down(self) -> bool:
        return self._breaker.is_open

    @property
    def down_s(self) -> float:
        """Seconds down so far, the present outage included."""
        return self._breaker.down_s

    async def wait_until_up(self) -> None:
        """Return when the server is not down; at once where it is up."""
        await self._breaker.wait_closed()

    def read_traffic(self) -> Traffic:
        """The counts since the last call."""
        traffic, self._traffic = self._traffic, Traffic()
        return traffic

    async def close(self) -> None:
        """Close the sockets."""
        await self._connection.close()

    # ---- requests ----

    async def ask(
        self,
        messages: Chat,
        read: Callable[[Reply], T],
        *,
        settings: ChatSettings = GREEDY,
        waits: bool = True,
    ) -> T:
        """What `read` makes of the reply to `messages`, sampled by `settings`.

        `read` raises UnreadableReplyError for a reply that it cannot use, which is then requested again. While the
        server is down the call waits for it, or raises ServerDownError with `waits=False`. After the last attempt
        it raises the last ServerError or UnreadableReplyError; a RequestRefusedError that is about this request alone
        is raised at once and says nothing about the server. Only a deadline of the caller's bounds the time that
        outages and 429s take.
        """
        attempts = 0
        while True:
            try:
                return await self._attempt(messages, read, settings, waits)
            except (ServerError, UnreadableReplyError) as error:
                attempts += 1
                if not _may_pass_later(error) or self._is_hopeless(attempts):
                    raise
            self._traffic.retries += 1
            await asyncio.sleep(0.0 if self.is_down else backoff_s(attempts))

    async def ask_once(self, messages: Chat, read: Callable[[Reply], T]) -> T | None:
        """The same in one attempt that waits for no outage; None where there is any trouble."""
        try:
            return await self._exchange(messages, read, GREEDY)
        except RateLimitedError as error:
            self._slow_down(error, 1)
        except (ServerError, UnreadableReplyError, ServerDownError):
            pass
        return None

    async def greet(self) -> None:
        """Send the greeting until it was answered once. Raises RequestRefusedError: the configuration is wrong."""
        if self.is_greeted or self.is_down:
            return
        try:
            await self._connection.complete(self._greeting())
        except RequestRefusedError:
            raise
        except ServerError as error:
            self._breaker.failure(str(error))
        except RateLimitedError as error:
            self._slow_down(error, 1)
        else:
            self.is_greeted = True

    async def _attempt(self, messages: Chat, read: Callable[[Reply], T], settings: ChatSettings, waits: bool) -> T:
        """One attempt that counts; outages and 429s before it cost time alone."""
        rate_limits = 0
        while True:
            if self.is_down:
                if not waits:
                    raise ServerDownError
                await self.wait_until_up()
            try:
                return await self._exchange(messages, read, settings)
            except ServerDownError:
                continue
            except RateLimitedError as error:
                rate_limits += 1
                self._slow_down(error, rate_limits)

    async def _exchange(self, messages: Chat, read: Callable[[Reply], T], settings: ChatSettings) -> T:
        """One request, in its turn."""
        async with self._limiter:
            if self.is_down:  # since this call queued
                raise ServerDownError
            start = time.monotonic()
            try:
                reply = await self._complete(messages, settings)
            except ServerError as error:
                if not _may_pass_later(error):
                    self._breaker.success()
                    raise
                self._pause(str(error), error.retry_after or 0.0)
                self._breaker.failure(str(error))
                raise
        self._breaker.success()
        self._traffic.latencies_s.append(time.monotonic() - start)
        return read(reply)

    async def _complete(self, messages: Chat, settings: ChatSettings) -> Reply:
        """One request, when the tokens of the last minute leave room for it."""
        budget = self._budget
        if budget is None:
            return await self._connection.complete(messages, settings)
        reserved = await budget.reserve(settings.max_tokens or self._config.max_tokens)
        try:
            reply = await self._connection.complete(messages, settings)
        except (RateLimitedError, RequestRefusedError):
            budget.cancel(reserved)
            raise
        except BaseException:
            budget.lose(reserved)
            raise
        budget.settle(reserved, reply.prompt_tokens, reply.tokens)
        return reply

    async def _probe(self) -> str | None:
        try:
            await self._connection.complete(self._greeting())
        except (ServerError, RateLimitedError) as error:
            return str(error)
        return None

    # ---- pauses ----

    def _slow_down(self, error: RateLimitedError, times: int) -> None:
        self._traffic.rate_limited += 1
        # A wish of 0 s would mean one request after the other.
        self._pause(str(error), error.retry_after or backoff_s(times))

    def _pause(self, reason: str, seconds: float) -> None:
        if seconds > _LONG_PAUSE_S:
            seconds = min(seconds, _LONGEST_PAUSE_S)
            self._breaker.trip(f"{reason}, back in {seconds:.0f} s", probe_after_s=seconds)
        else:
            self._limiter.pause(seconds)

    def _is_hopeless(self, attempts: int) -> bool:
        """Whether to give a request up.

        While the server is down its failures are not the request's, which may try again afterwards. But not for
        ever: a request that breaks the server each time would bring it down each time.
        """
        allowed = self._config.max_retries
        return attempts > (2 * allowed + 1 if self.is_down else allowed)


def _may_pass_later(error: ServerError | UnreadableReplyError) -> bool:
    """Whether the same request may be answered another time."""
    return not (isinstance(error, RequestRefusedError) and error.is_about_request)
