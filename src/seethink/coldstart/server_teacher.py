"""OpenAI-compatible servers as the teacher."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seethink.coldstart.questions import Question
from seethink.coldstart.shown import content
from seethink.coldstart.teacher import SYSTEM, Ask, State, Take, Told, told
from seethink.config.coldstart import ColdstartConfig
from seethink.config.endpoint import EndpointConfig
from seethink.core.console import say
from seethink.core.redact import visible
from seethink.endpoint.batch import Outcome, Request, ServerUnusableError, ask_all
from seethink.endpoint.batch import State as Ended
from seethink.endpoint.chat import ChatSettings, Message

_STATES: dict[Ended, State] = {
    Ended.ANSWERED: "done",
    Ended.TRUNCATED: "truncated",
    Ended.EMPTY: "empty",
    Ended.REFUSED: "refused",
    Ended.FAILED: "failed",
}
_LAST_S = 3.0
"""Seconds that threads have to end in; one that waits for a server's answer ends with the process."""


class ServerTeacher:
    """Several servers of one model share the questions: each takes the next one when it has a place free."""

    system = SYSTEM

    def __init__(self, servers: Sequence[EndpointConfig], folder: Path, config: ColdstartConfig) -> None:
        """`folder` has the pictures, whose bytes go to the servers unchanged."""
        self._servers, self._folder, self._config = servers, folder, config
        self.identity: dict[str, Any] = {"model": servers[0].model}
        self.name = servers[0].model

    def ask(self, asks: Sequence[Ask], take: Take) -> None:
        """Raises ServerUnusableError where no server takes requests; one of several that does not is left out."""
        by_key = {ask.key: ask for ask in asks}
        waiting = _Shared(self._request(ask) for ask in asks)
        found: queue.Queue[tuple[EndpointConfig, Outcome | Exception | None]] = queue.Queue()
        stopping = threading.Event()
        threads = [
            threading.Thread(target=_run, args=(server, waiting, found, stopping), daemon=True)
            for server in self._servers
        ]
        for thread in threads:
            thread.start()
        try:
            self._take_all(found, by_key, take)
        finally:
            stopping.set()
            waiting.close()
            deadline = time.monotonic() + _LAST_S
            while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
                _drain(found)

    def _take_all(
        self,
        found: queue.Queue[tuple[EndpointConfig, Outcome | Exception | None]],
        asks: dict[str, Ask],
        take: Take,
    ) -> None:
        running, unusable = len(self._servers), list[ServerUnusableError]()
        while running:
            server, outcome = found.get()
            if isinstance(outcome, Outcome):
                try:
                    take(asks.pop(outcome.key), _told(outcome, server))
                finally:
                    found.task_done()
                continue
            found.task_done()
            running -= 1
            if isinstance(outcome, ServerUnusableError):
                unusable.append(outcome)
                if len(self._servers) > 1:
                    say(visible(f"left out: {outcome}"), "yellow")
            elif outcome is not None:
                raise outcome
        if len(unusable) == len(self._servers):
            raise unusable[0]

    def rendered(self, question: Question) -> str:
        """The request's body, with pictures as their size in bytes."""
        messages = self._messages(question)
        for message in messages:
            for part in message["content"] if isinstance(message["content"], list) else []:
                if part["type"] == "image_url":
                    head, _, data = part["image_url"]["url"].partition(",")
                    part["image_url"]["url"] = f"{head},({len(data) * 3 // 4:,} bytes)"
        return json.dumps({"model": self.name, "messages": messages}, indent=2, ensure_ascii=False)

    def close(self) -> None:
        """Nothing is held between calls."""

    def _request(self, ask: Ask) -> Request:
        c = self._config
        # The seed is the sample's own: a request that is sent again gives the same trace where the server can.
        settings = ChatSettings(c.temperature, c.top_p if c.top_p < 1 else None, int(ask.key[:7], 16), c.max_tokens)
        return Request(ask.key, self._messages(ask.question), settings)

    def _messages(self, question: Question) -> list[Message]:
        sample = question.asked(None)
        said = [self._config.system if self._config.system is not None else self.system, sample.system]
        system = "\n\n".join(text for text in said if text)
        user = Message(role="user", content=content(question, sample, self._folder))
        return [Message(role="system", content=system), user] if system else [user]


def _told(outcome: Outcome, server: EndpointConfig) -> Told:
    about = {"latency_s": round(outcome.seconds, 3), "server": server.base_url, "model": server.model}
    reply = outcome.reply
    if reply is None:
        return Told(_STATES[outcome.state], error=outcome.reason[:300] or None, **about)  # type: ignore[arg-type]
    found = told(
        reply.text,
        cut_off=outcome.state is Ended.TRUNCATED,
        refused=outcome.state is Ended.REFUSED,
        reasoning=reply.reasoning,
        tokens_in=reply.prompt_tokens,
        tokens_out=reply.tokens,
        error=outcome.reason[:300] or None,
        **about,
    )
    assert found.state == _STATES[outcome.state]
    return found


class _Shared:
    """One iterator of requests for several threads; `close` ends it for all."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests, self._lock, self._closed = requests, threading.Lock(), False

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        with self._lock:
            if self._closed:
                raise StopIteration
            return next(self._requests)

    def close(self) -> None:
        self._closed = True


def _run(
    server: EndpointConfig,
    waiting: _Shared,
    found: queue.Queue[tuple[EndpointConfig, Outcome | Exception | None]],
    stopping: threading.Event,
) -> None:
    """Put the outcomes of one server, then its error or None."""
    try:
        outcomes = ask_all(server, waiting, role="teacher")
        try:
            for outcome in outcomes:
                found.put((server, outcome))
                found.join()  # what has not been taken is in hand, so that a kill loses few paid answers
                if stopping.is_set():
                    break
        finally:
            outcomes.close()  # type: ignore[attr-defined]
        found.put((server, None))
    except Exception as error:  # raised again in the thread of the command
        found.put((server, error))


def _drain(found: queue.Queue[Any]) -> None:
    """Let a thread that waits for its outcome to be taken go on and see that it is to stop."""
    try:
        found.get(timeout=0.05)
    except queue.Empty:
        return
    found.task_done()
