"""Samples from vLLM servers over HTTP. This module imports no vllm: it runs where training runs.

A request is one prompt: unexpanded token ids (one placeholder an image; the server expands them), the pictures once,
and how many completions. A server's answer is checked before anything learns from it: the prompt as the server read it,
the version of its weights, ids, log-probs, and what ended each completion.

A server that fails is left alone until it is well again, and its requests go to the others. One that comes back with
other weights must be given the current ones first: `attempt` then returns None, and the caller pushes them.

Letters: P prompts, G completions per prompt.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt
from seethink.endpoint.background import BackgroundLoop
from seethink.endpoint.chat import data_url
from seethink.endpoint.errors import RateLimitedError, RequestRefusedError, ServerError
from seethink.endpoint.limits import backoff_s
from seethink.generate.protocol import Forbid, Sampling
from seethink.generate.vllm_reply import Expected, StaleReply, read_reply
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
BANNED = -100.0
"""Added to the logits of image ids, which nothing may sample: e^-100 of a probability is 0 in float32."""
TOKEN_BYTES = 512
"""Of a reply, for each token."""


@dataclass(slots=True)
class _Request:
    """Some completions of one prompt."""

    prompts: Sequence[Prompt]
    place: int
    """Of the prompt in the call."""
    seed: int
    """Of the first completion."""
    first: int
    """Its number."""
    count: int
    sampling: Sampling
    failures: int = 0
    answer: list[Completion] | None = None


@dataclass(slots=True)
class _Work:
    """The requests of one attempt."""

    waiting: list[_Request]
    rows: int
    """Requests that a server has at a time."""
    open: int
    progress: Callable[[int], None] | None
    in_flight: int = 0
    halted: bool = False
    """A server wants weights: nothing more is sent."""
    change: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        return self.open == 0 or (self.halted and self.in_flight == 0)


class VllmGenerator:
    """Deals requests among servers, each of which holds a copy of the weights."""

    def __init__(
        self,
        loaded: LoadedModel,
        servers: Sequence[VllmServer],
        weights: Callable[[], NamedTensors],
        *,
        max_rows: int = 256,
        weight_sync: str = "gloo",
        request_timeout_s: float = 1800.0,
        wait_s: float = 900.0,
    ) -> None:
        """`weights` iterates the trainer's current weights by their names in a checkpoint, each tensor whole.

        `max_rows` are a server's completions in flight; `wait_s` is how long no server may be ready.
        """
        self._loaded, self._servers, self._weights = loaded, list(servers), weights
        self._max_rows, self._request_timeout_s, self._wait_s = max_rows, request_timeout_s, wait_s
        self._loop = BackgroundLoop("VllmGenerator")
        self._sync = WeightSync(self._loop, TRANSFERS[weight_sync])
        self._vocabulary = vocabulary_size(loaded.model)
        # A server may have served another run's weights under the same number.
        self._run = secrets.token_hex(4)
        self._kept: dict[tuple[Any, ...], list[_Request]] = {}
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
            self.push()

    def wants_weights(self, version: int) -> bool:
        """Set the version; whether a server that answers serves another one."""
        self.policy_version = version
        self._loop.run(_look_at(self._servers))
        return any(server.version not in (None, self._version) for server in self._servers)

    def push(self) -> None:
        """Iterate the weights, and give them to the servers that answer and have others."""
        wanting = [server for server in self._servers if server.version not in (None, self._version)]
        self._sync.push(wanting, self._weights(), self._version)
        for server in wanting:
            server.failed_updates = 0 if server.version == self._version else server.failed_updates + 1
            if server.failed_updates == MOST_FAILED_UPDATES:
                say(f"{server.fault}: it is left out from now on", "bold red")
                self._servers.remove(server)
                self._left_out = self._left_out or server.fault

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
            self.push()
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
        refuse_what_servers_lack(sampling)
        if shown := next((prompt.sample.id for prompt in prompts if prompt.sample.videos), None):
            raise UserError(f"sample {shown!r} has a video, which is not sent to vLLM servers; sample in process")
        if not self._servers:
            raise UserError(f"no vLLM server takes the trainer's weights; the first: {self._left_out}")
        numbers = range(len(prompts)) if places is None else places
        key = (seed, group_size, sampling, tuple(numbers), self._version)
        # vLLM takes one greedy completion per request.
        most = self._max_rows if sampling.temperature else 1
        requests = self._kept.pop(key, None) or [
            _Request(prompts, place, completion_seed(seed, number), first, min(most, group_size - first), sampling)
            for place, number in enumerate(numbers)
            for first in range(0, group_size, most)
        ]
        if not self._loop.run(self._work_off(requests, progress)):
            self._kept = {key: requests}
            return None
        groups: list[list[Completion]] = [[] for _ in prompts]
        for request in requests:
            assert request.answer is not None
            groups[request.place] += request.answer
        return groups

    def close(self) -> None:
        self._sync.close()

        async def close_all() -> None:
            for server in self._servers:
                await server.close()

        self._loop.close(close_all)

    def _written(self, request: _Request) -> tuple[dict[str, Any], Expected]:
        """(body of the request, what its answer must be). Made when it is sent, since pictures are large."""
        prompt, sampling = request.prompts[request.place], request.sampling
        stops, banned = self._loaded.stop_ids, {*self._loaded.banned_ids, *forbidden_ids(sampling)}
        parameters = {
            "n": request.count, "seed": request.seed + request.first,  # vLLM adds a completion's number
            "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0, "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": list(stops), "logit_bias": {str(i): BANNED for i in sorted(banned)}, "logprobs": 0,
            "detokenize": False,
        }  # fmt: skip
        body = {
            "token_ids": self._loaded.chat.unexpanded_ids(prompt),
            "content_parts": [{"type": "image_url", "url": data_url(as_png(image))} for image in prompt.pictures()],
            "sampling_params": parameters,
            "return_token_ids": True,
        }
        expected = Expected(
            prompt.sample.id, tuple(prompt.input_ids), request.count, sampling.max_new_tokens, stops, frozenset(banned),
            self._vocabulary, self._version,
        )  # fmt: skip
        return body, expected

    async def _work_off(self, requests: list[_Request], progress: Callable[[int], None] | None) -> bool:
        """Whether all have an answer."""
        waiting = [request for request in requests if request.answer is None]
        if not waiting:
            return True
        rows = max(1, self._max_rows // waiting[0].count)
        work = _Work(waiting[::-1], rows, len(waiting), progress)
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
            version = await server.look()
            if version == self._version:
                await self._send_all(server, work)
            elif version is not None:
                # The others finish what they have.
                work.halted = True
                work.change.set()
            await asyncio.sleep(LOOK_S)

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
            if request.answer is not None and work.progress is not None and request.first == 0:
                work.progress(1)

    async def _ask(self, server: VllmServer, request: _Request) -> list[Completion] | None:
        """The answer; None after a failure that is not the request's own, which is noted at the server."""
        body, expected = self._written(request)
        most = (1 << 16) + TOKEN_BYTES * (len(expected.prompt_ids) + expected.count * expected.max_new_tokens)
        try:
            reply = await server.post("inference/v1/generate", body, timeout_s=self._request_timeout_s, most=most)
            return read_reply(reply, expected, self._loaded.chat.decode, self.policy_version)
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


def completion_seed(seed: tuple[int, ...], number: int) -> int:
    """The seed of a prompt's first completion; those of the next are this plus 1, 2, ...: a function of run, step,
    prompt and sample alone."""
    return int(np.random.SeedSequence([*seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def as_png(image: Any) -> bytes:
    """The picture as a file that loses nothing."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def forbidden_ids(sampling: Sampling) -> list[int]:
    return [ids[0] for rule in sampling.rules if isinstance(rule, Forbid) for ids in rule.sequences]


def refuse_what_servers_lack(sampling: Sampling) -> None:
    """Raises UserError."""
    if sampling.top_p < 1:
        raise UserError(
            f"top_p={sampling.top_p} in a vLLM server gives log-probs of the kept tokens alone; set top_p=1, or sample "
            "in process"
        )
    if not all(isinstance(rule, Forbid) and all(len(ids) == 1 for ids in rule.sequences) for rule in sampling.rules):
        raise UserError("a vLLM server forbids single tokens alone; sample with other rules in process")
