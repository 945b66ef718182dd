"""Many chats with one server: requests in, outcomes out as they come, in whatever order they end.

    for outcome in ask_all(config, requests, role="teacher", total=20_000, on_progress=show):
        store.append(outcome)

The server is kept busy with `max_concurrency` requests at once. Requests are made when their turn comes, so that a
generator of them holds few images at a time. What a model says and what a server fails to do are told apart: only
the first is worth storing.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum

from seethink.config.endpoint import EndpointConfig
from seethink.core.errors import UserError
from seethink.endpoint.background import BackgroundLoop
from seethink.endpoint.chat import Chat, ChatSettings, Message, Reply
from seethink.endpoint.client import Client
from seethink.endpoint.connection import GREEDY, Connection
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError, UnreadableReplyError
from seethink.endpoint.limits import backoff_s
from seethink.endpoint.scoring import connect

GREETING = "Reply with the word OK."
_GREETING_TOKENS = 16
_UNREAD_PER_REQUEST = 4
"""Outcomes that may wait for a caller who takes batches, per request at once: a caller that is slower than the server
slows it down. For one who takes each by itself it is 1, so that a kill loses few paid answers."""
_GATHER_S = 0.02
"""Seconds from an outcome to the end of its batch. Python runs one thread at a time: each turn of the caller's keeps
requests from being sent, so that its turns are few."""


class State(StrEnum):
    """How a request ended. A reply is the model's in the first four states; a failure says nothing about the model."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"
    """`max_tokens` ended the text."""
    EMPTY = "empty"
    """The model ended its turn without a text; it may have thought."""
    REFUSED = "refused"
    """The server refused this request (HTTP 400, 413, 415, 422), or a filter or the model declined to answer."""
    FAILED = "failed"
    """No proper answer after all attempts: to be asked again another time."""


@dataclass(frozen=True, slots=True)
class Request:
    """One chat.

    Example: `Request("mmmu/17/0", [Message(role="user", content="Why?")], ChatSettings(seed=3))`
    """

    key: str
    """The caller's name of it, given back with the outcome."""
    messages: Chat
    settings: ChatSettings = GREEDY


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended."""

    key: str
    state: State
    reply: Reply | None
    """None where there was none: refused by the server, or failed."""
    reason: str = ""
    """Why it was refused or failed; "" otherwise."""
    seconds: float = 0.0
    """From its turn to its end, pauses and further attempts included."""


@dataclass(slots=True)
class Progress:
    """What has happened so far."""

    total: int
    """Requests in all; 0 where unknown."""
    states: Counter[State] = field(default_factory=Counter)
    tokens: int = 0
    """Written by the model, where the server counts them."""
    started_at: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return self.states.total()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_at

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the mean rate so far; None before the first outcome, and where the total is unknown."""
        left = self.total - self.done
        return self.elapsed_s / self.done * left if self.done and left >= 0 and self.total else None

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / max(self.elapsed_s, 1e-9)

    def add(self, outcome: Outcome) -> None:
        self.states[outcome.state] += 1
        self.tokens += (outcome.reply.tokens or 0) if outcome.reply is not None else 0


class ServerUnusableError(UserError):
    """The server does not answer at all, or refuses every request: its address, model or key is wrong."""


def ask_all(
    config: EndpointConfig,
    requests: Iterable[Request],
    *,
    role: str,
    total: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[Outcome]:
    """The outcome of every request, as they come.

    Args:
        config: Address, model, limits and deadlines.
        requests: Drawn in a thread of its own when their turn comes; an error in drawing them is raised here.
        role: What the server is, for notices in the log.
        total: Number of requests, for the progress.
        on_progress: Called after every outcome.

    Raises:
        ServerUnusableError: Before the first request, where the server gives no answer or refuses its greeting.
    """
    progress = Progress(total)
    with closing(ask_in_batches(config, requests, role=role, unread=1)) as batches:
        for outcome in itertools.chain.from_iterable(batches):
            progress.add(outcome)
            if on_progress is not None:
                on_progress(progress)
            yield outcome


def ask_in_batches(
    config: EndpointConfig, requests: Iterable[Request], *, role: str, unread: int = _UNREAD_PER_REQUEST
) -> Generator[list[Outcome], None, None]:
    """As `ask_all`, with the outcomes that came together: a caller that writes each batch at once keeps up with a fast
    server, and loses at most a fiftieth of a second's answers when it is killed.

    No request is sent while `unread` outcomes, times `max_concurrency`, wait for the caller or are in its hands.
    """
    client = Client(config, role=role, greeting=_greeting, while_down="requests wait for it")
    outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    loop = BackgroundLoop(f"{role} {client!r}")
    try:
        work = _Work(client, config, iter(requests), outcomes, unread * config.max_concurrency)
        done = loop.start(work.run())
        while batch := _arrived(outcomes):
            yield batch
            work.handled += len(batch)
        done.result()
    finally:
        loop.close(client.close)


def _arrived(outcomes: queue.SimpleQueue[Outcome | None]) -> list[Outcome]:
    """The next outcome and those that follow at once; none at the end."""
    batch = []
    outcome = outcomes.get()
    if outcome is not None:
        time.sleep(_GATHER_S)
    while outcome is not None:
        batch.append(outcome)
        if outcomes.empty():
            return batch
        outcome = outcomes.get()
    if batch:
        outcomes.put(None)  # for the next call
    return batch


def state_of(reply: Reply) -> State:
    """What a reply counts as.

    >>> str(state_of(Reply("6 times 7 is", "length"))), str(state_of(Reply("", "stop", reasoning="6 times 7")))
    ('truncated', 'empty')
    """
    if reply.finish_reason == "length":
        return State.TRUNCATED
    if reply.refusal or reply.finish_reason == "content_filter":
        return State.REFUSED
    return State.ANSWERED if reply.text.strip() else State.EMPTY


class _Work:
    """Asks all requests of one call, inside its loop."""

    def __init__(
        self,
        client: Client,
        config: EndpointConfig,
        requests: Iterator[Request],
        outcomes: queue.SimpleQueue[Outcome | None],
        most_unread: int,
    ) -> None:
        self._client = client
        self._config = config
        self._requests = requests
        self._outcomes = outcomes
        self._most_unread, self._put = most_unread, 0
        self.handled = 0
        """Outcomes that the caller has done with."""

    async def run(self) -> None:
        """Put every outcome, then None: at the end, or before the error that this raises."""
        try:
            await self._greet()
            async with asyncio.TaskGroup() as group:
                for _ in range(self._config.max_concurrency):
                    group.create_task(self._ask_in_turn())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._outcomes.put(None)

    async def _ask_in_turn(self) -> None:
        for request in self._requests:
            while self._put - self.handled >= self._most_unread:
                await asyncio.sleep(0.01)
            self._outcomes.put(await self._ask(request))
            self._put += 1

    async def _ask(self, request: Request) -> Outcome:
        start = time.monotonic()
        state, reply, reason = State.FAILED, None, ""
        try:
            reply = await self._client.ask(request.messages, _read, settings=request.settings)
            state, reason = state_of(reply), reply.refusal
        except RequestRefusedError as error:
            state, reason = (State.REFUSED if error.is_about_request else State.FAILED), str(error)
        except (ServerError, UnreadableReplyError) as error:
            reason = str(error)
        return Outcome(request.key, state, reply, reason, time.monotonic() - start)

    async def _greet(self) -> None:
        """Raises ServerUnusableError where no attempt finds a server that takes requests."""
        connection = connect(self._config)
        try:
            await self._greet_by(connection)
        finally:
            await connection.close()

    async def _greet_by(self, connection: Connection) -> None:
        where = f"{self._config.base_url} (model {self._config.model!r})"
        reason = ""
        for attempt in range(self._config.max_retries + 1):
            try:
                await connection.complete(_greeting(), ChatSettings(max_tokens=_GREETING_TOKENS))
                return
            except RateLimitedError:  # it is there, and busy
                return
            except RequestRefusedError as error:
                advice = "check the address, the model's name and the key"
                raise ServerUnusableError(f"the server at {where} refuses requests: {error}; {advice}") from None
            except ServerError as error:
                reason = str(error)
            if attempt < self._config.max_retries:
                await asyncio.sleep(backoff_s(attempt + 1))
        advice = "start it, or correct the address, which usually ends in /v1"
        raise ServerUnusableError(f"no answer from a server at {where}: {reason}; {advice}")


def _greeting() -> list[Message]:
    return [Message(role="user", content=GREETING)]


def _read(reply: Reply) -> Reply:
    """Raises UnreadableReplyError where the server gave up in the middle."""
    if reply.finish_reason in ("abort", "error"):
        raise UnreadableReplyError(f"the server ended the reply with finish_reason {reply.finish_reason!r}")
    return reply
