"""Samples from vLLM servers over HTTP. This module imports no vllm: it runs where training runs.

A request is one prompt: unexpanded token ids (one placeholder an image; the server expands them), the pictures once,
and how many completions. A server's answer is checked before anything learns from it: the prompt as the server read it,
the version of its weights, ids, log-probs, and what ended each completion.

A server that fails is left alone until it is well again, and its requests go to the others. One that comes back with
other weights must be given the current ones first: `attempt` then returns None, and the caller pushes them. Between
`begin` and `wait` requests are sampled in the background, while the weights in this process change: nothing can be
pushed then, and a server without the weights of `begin` is left out.

Letters: P prompts, G completions per prompt.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt
from seethink.endpoint.background import BackgroundLoop
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.limits import backoff_s
from seethink.generate.gloo import STEP_S
from seethink.generate.protocol import Sampling
from seethink.generate.vllm_reply import StaleReply, read_reply
from seethink.generate.vllm_request import Request, gathered, make_requests, written
from seethink.generate.vllm_server import VllmServer
from seethink.generate.weight_sync import TRANSFERS, NamedTensors, WeightSync
from seethink.models.forward import vocabulary_size
from seethink.models.load import LoadedModel

LOOK_S = 1.0
"""Seconds between looks at a server that does not answer."""
MOST_FAILED_UPDATES = 3
"""In a row, of one server: it cannot take weights."""
MOST_FAILURES = 6
"""Of one request, whichever servers it went to: it may be the request that breaks them."""
TOKEN_BYTES = 512
"""Of a reply, for each token."""


@dataclass(slots=True)
class _Work:
    """The requests of one attempt."""

    waiting: list[Request]
    rows: int
    """Requests that a server has at a time."""
    open: int
    progress: Callable[[int], None] | None
    in_flight: int = 0
    halted: bool = False
    """Weights are wanted: nothing more is sent."""
    in_background: bool = False
    """The caller cannot push weights: servers that have others are left out while any has the right ones."""
    change: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        return self.open == 0 or (self.halted and self.in_flight == 0)


@dataclass(slots=True)
class _Begun:
    """What is sampled in the background."""

    requests: list[Request]
    prompts: int
    seconds: Future[float]
    """How long it took; done when nothing is in flight any more."""


class VllmGenerator:
    """Deals requests among servers, each of which holds a copy of the weights."""

    def __init__(
        self,
        loaded: LoadedModel,
        servers: Sequence[VllmServer],
        weights: Callable[[bool], NamedTensors],
        *,
        max_rows: int = 256,
        weight_sync: str = "gloo",
        sleep: int = 0,
        keeps: bool = False,
        request_timeout_s: float = 1800.0,
        wait_s: float = 900.0,
    ) -> None:
        """`weights(is_whole)` iterates the trainer's current weights by their names in a checkpoint, each tensor whole:
        all, or what has changed since the push before, for servers that `keeps` tells to keep the rest.

        `max_rows` are a server's completions in flight; `wait_s` is how long no server may be ready. `sleep` is the
        level of `vllm.sleep`.
        """
        self._loaded, self._servers, self._weights = loaded, list(servers), weights
        self._max_rows, self._request_timeout_s, self._wait_s = max_rows, request_timeout_s, wait_s
        self._loop = BackgroundLoop("VllmGenerator")
        self._sync = WeightSync(self._loop, TRANSFERS[weight_sync], wakes=sleep > 0, keeps=keeps)
        self._sleep_level, self._keeps = sleep, keeps
        self._vocabulary = vocabulary_size(loaded.model)
        # A server may have served another run's weights under the same number.
        self._run = secrets.token_hex(4)
        self._kept: dict[tuple[Any, ...], list[Request]] = {}
        self._begun: _Begun | None = None
        self._left_out = ""
        """Why the first server that was given up took no weights."""
        self.policy_version = 0

    @property
    def _version(self) -> str:
        return f"{self._run}-{self.policy_version}"

    # ---- weights ----

    def load_weights(self, version: int) -> None:
        """Push the current weights to the servers that answer and have others; the rest get them when they are back."""
        if self.wants_weights(version):
            self.push(self.wants_whole())

    def wants_whole(self) -> bool:
        """Whether a server that wants weights has not all of those that were pushed before."""
        return not self._keeps or not all(map(self._sync.knows, self._wanting()))

    def _wanting(self) -> list[VllmServer]:
        return [server for server in self._servers if server.wants(self._version)]

    def wants_weights(self, version: int) -> bool:
        """Set the version; whether a server that answers serves another one, or sleeps."""
        self.policy_version = version
        self._loop.run(_look_at(self._servers))
        return bool(self._wanting())

    def push(self, is_whole: bool) -> None:
        """Iterate the weights, and give them to the servers that answer and have others or sleep, which wakes them."""
        wanting = self._wanting()
        self._sync.push(wanting, self._weights(is_whole), self._version)
        for server in wanting:
            server.failed_updates = 0 if server.serves(self._version) else server.failed_updates + 1
            if server.failed_updates == MOST_FAILED_UPDATES:
                say(f"{server.fault}: it is left out from now on", "bold red")
                self._servers.remove(server)
                self._left_out = self._left_out or server.fault

    def sleep(self) -> None:
        """Send the servers that answer to sleep; the next weights wake them. One that fails is lost for now."""
        self._loop.run(self._send_to_sleep())

    async def _send_to_sleep(self) -> None:
        await asyncio.gather(*(self._put_to_sleep(server) for server in self._servers if server.version is not None))

    async def _put_to_sleep(self, server: VllmServer) -> None:
        server.asleep = True  # or half of it
        try:
            await server.post(f"sleep?level={self._sleep_level}", timeout_s=STEP_S)
        except (ServerError, RateLimitedError) as error:
            server.lost(f"{server.url} did not go to sleep: {_one_line(error)}")
            say(f"{server.fault}; it may keep its memory while training", "yellow")

    # ---- sampling ----

    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
        *,
        places: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """As `Generator.generate`. Raises UserError where the servers cannot give what is asked."""
        while (groups := self.attempt(prompts, group_size, sampling, seed, progress, places=places)) is None:
            self.push(self.wants_whole())
        return groups

    def attempt(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
        *,
        places: Sequence[int] | None = None,
    ) -> list[list[Completion]] | None:
        """As `generate`; None where a server is back and wants the weights first (`push`). What has been answered by
        then is kept for the next call with the same seed."""
        self._require_servers()
        numbers = list(range(len(prompts)) if places is None else places)
        key = (seed, group_size, sampling, tuple(numbers), self._version)
        requests = self._kept.pop(key, None) or self._requests(prompts, group_size, sampling, seed, numbers)
        if not self._loop.run(self._work_off(requests, progress)):
            self._kept = {key: requests}
            return None
        return gathered(self._loaded, requests, len(prompts))

    def begin(self, prompts: Sequence[Prompt], group_size: int, sampling: Sampling, seed: tuple[int, ...]) -> None:
        """As `AheadGenerator.begin`. Raises UserError where the servers cannot give what is asked."""
        assert self._begun is None
        self._require_servers()
        requests = self._requests(prompts, group_size, sampling, seed, range(len(prompts)))

        async def timed() -> float:
            started = time.perf_counter()
            await self._work_off(requests, None, in_background=True)
            return time.perf_counter() - started

        self._begun = _Begun(requests, len(prompts), self._loop.start(timed()))

    def wait(self) -> float:
        """As `AheadGenerator.wait`. Raises UserError as `generate` does."""
        assert self._begun is not None
        return self._begun.seconds.result()

    def rest(self) -> list[list[Completion]] | None:
        """What `begin` has begun, once it is waited for; what no server could answer then is sampled now, from the
        current weights. None where a server wants those first."""
        assert self._begun is not None
        assert self._begun.seconds.done()
        if not self._loop.run(self._work_off(self._begun.requests, None)):
            return None
        begun, self._begun = self._begun, None
        return gathered(self._loaded, begun.requests, begun.prompts)

    def close(self) -> None:
        self._sync.close()

        async def close_all() -> None:
            for server in self._servers:
                await server.close()

        self._loop.close(close_all)

    def _require_servers(self) -> None:
        if not self._servers:
            raise UserError(f"no vLLM server takes the trainer's weights; the first: {self._left_out}")

    def _requests(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        numbers: Sequence[int],
    ) -> list[Request]:
        return make_requests(self._loaded, prompts, group_size, sampling, seed, numbers, self._max_rows)

    async def _work_off(
        self, requests: list[Request], progress: Callable[[int], None] | None, *, in_background: bool = False
    ) -> bool:
        """Whether all have an answer."""
        waiting = [request for request in requests if request.answer is None]
        if not waiting:
            return True
        rows = max(1, self._max_rows // waiting[0].count)
        work = _Work(waiting[::-1], rows, len(waiting), progress, in_background=in_background)
        tasks = [asyncio.create_task(self._keep_busy(server, work)) for server in self._servers]
        tasks.append(asyncio.create_task(self._expect_one(work)))
        over = asyncio.create_task(_until(work))
        try:
            done, _ = await asyncio.wait([over, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in [over, *tasks]:
                task.cancel()
            await asyncio.gather(over, *tasks, return_exceptions=True)
        return work.open == 0

    async def _expect_one(self, work: _Work) -> None:
        """Raises UserError where no server has been ready for too long."""
        until = time.monotonic() + self._wait_s
        while True:
            await asyncio.sleep(min(LOOK_S, self._wait_s))
            if any(server.version is not None for server in self._servers):
                until = time.monotonic() + self._wait_s
            elif time.monotonic() > until:
                faults = "; ".join(server.fault for server in self._servers)
                raise UserError(f"no vLLM server has been ready for {self._wait_s:.0f} s: {faults}")

    async def _keep_busy(self, server: VllmServer, work: _Work) -> None:
        """Send requests to one server while it is well."""
        while True:
            await server.look()
            if server.serves(self._version):
                await self._send_all(server, work)
            elif server.wants(self._version) and not (work.in_background and self._any_is_current()):
                # The others finish what they have.
                work.halted = True
                work.change.set()
            await asyncio.sleep(LOOK_S)

    def _any_is_current(self) -> bool:
        return any(server.serves(self._version) for server in self._servers)

    async def _send_all(self, server: VllmServer, work: _Work) -> None:
        """As many requests at a time as the server has rows, until it fails."""
        lanes = [asyncio.create_task(self._send_one_by_one(server, work)) for _ in range(min(work.rows, work.open))]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()

    async def _send_one_by_one(self, server: VllmServer, work: _Work) -> None:
        while server.version is not None and not work.halted:
            if not work.waiting:
                # Those of another server may come back.
                work.change.clear()
                await work.change.wait()
                continue
            request = work.waiting.pop()
            work.in_flight += 1
            try:
                request.answer = await self._ask(server, request)
            finally:
                work.in_flight -= 1
                if request.answer is None:
                    work.waiting.append(request)
                else:
                    work.open -= 1
                work.change.set()
            if request.answer is not None and work.progress is not None and request.is_first:
                work.progress(1)

    async def _ask(self, server: VllmServer, request: Request) -> list[Completion] | None:
        """The answer; None after a failure that is not the request's own, which is noted at the server."""
        body, expected = written(self._loaded, request, self._version, self._vocabulary)
        most = (1 << 16) + TOKEN_BYTES * (len(expected.prompt_ids) + expected.count * expected.max_new_tokens)
        try:
            reply = await server.post("inference/v1/generate", body, timeout_s=self._request_timeout_s, most=most)
            return read_reply(reply, expected, self.policy_version)
        except RateLimitedError as error:  # full: later, or by another server
            await asyncio.sleep(min(error.retry_after or backoff_s(1), LOOK_S * 10))
            return None
        except RequestRefusedError as error:
            raise UserError(f"the vLLM server refused the prompt of {expected.sample!r}: {error}") from None
        except StaleReply as error:
            server.lost(str(error))
        except (ServerError, ValidationError) as error:
            server.lost(_one_line(error))
        request.failures += 1
        if request.failures >= MOST_FAILURES:
            raise UserError(
                f"the prompt of {expected.sample!r} was asked {request.failures} times without an answer; at last: "
                f"{server.fault}"
            )
        return None


async def _until(work: _Work) -> None:
    while not work.is_over:
        work.change.clear()
        await work.change.wait()


async def _look_at(servers: Sequence[VllmServer]) -> None:
    await asyncio.gather(*(server.look() for server in servers))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
