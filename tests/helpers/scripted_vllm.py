"""A server on loopback that speaks vLLM's HTTP interface and does what a test's script says, faults included.

It holds no model: tokens and log-probs are a function of the seed. Weights arrive as in vLLM, through a gloo group, and
are kept as they came. `kill()` and `start()` take it down and up again on the same port, as a new server.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

from helpers.nano import make_samples
from helpers.scripted_openai import Reply, sends
from seethink.core.types import Prompt
from seethink.generate.gloo import broadcast, gloo_group
from seethink.generate.kept_weights import A, B, KeptWeights
from seethink.generate.vllm import VllmGenerator
from seethink.generate.vllm_server import VllmServer
from seethink.models.load import LoadedModel
from seethink.models.weight_stream import checkpoint_weights, separate_weights

Script = Callable[[int, dict[str, Any]], Reply | None]
"""(number of the generate request, from 1, its body) -> another reply than the proper one, or None."""
VOCABULARY = 40
"""Ids that it samples; a test's tokens must not be forbidden."""

NEEDED = {
    "/inference/v1/generate": {"weights", "kv_cache"},
    "/start_weight_update": {"weights"},
    "/update_weights": {"weights"},
    "/finish_weight_update": {"weights"},
}
"""What must be awake for a path."""


def made_up(seed: int, banned: set[int], most: int, stop: int) -> tuple[list[int], list[float]]:
    """The (ids, log-probs) of a completion with this seed: it stops by itself in one case of two."""
    rng = np.random.default_rng(seed)
    allowed = [i for i in range(VOCABULARY) if i not in banned and i != stop]
    length = int(rng.integers(1, most + 1))
    ids = [int(i) for i in rng.choice(allowed, size=most if length > most // 2 else length)]
    ids = ids if len(ids) == most else [*ids, stop]
    return ids, [float(-x) for x in rng.exponential(1.0, size=len(ids))]


class ScriptedVllm:
    """The server; `script` may answer a generate request in its place."""

    def __init__(self, loaded: LoadedModel, script: Script = lambda nth, body: None) -> None:
        self._loaded, self.script = loaded, script
        self.expanded: dict[tuple[int, ...], list[int]] = {}
        """Unexpanded prompt -> expanded, of the prompts that a test uses."""
        self.calls: list[str] = []
        """Paths in the order of arrival, looks at its health left out; of sleep and waking with their queries."""
        self.bodies: list[dict[str, Any]] = []
        """Of generate requests."""
        self.weights: dict[str, torch.Tensor] = {}
        self.version, self.faulty = "default", ""
        """`faulty` is a path that is answered with HTTP 500."""
        self.asleep: set[str] = set()
        """What is not in its memory: `weights`, `kv_cache`."""
        self.world: Any = 1
        self.lacks = ""
        """A path that it does not know."""
        self._lock, self._port = threading.Lock(), 0
        self._server: _Server | None = None
        self._group: Any = None
        self._kept = KeptWeights()
        self.received: list[int] = []
        """Bytes of each bucket."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> ScriptedVllm:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self.version, self.weights, self._group, self.asleep = "default", {}, None, set()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """End, and cut the connections of those who wait for an answer."""
        server, self._server = self._server, None
        if server is not None:
            server.stopping.set()
            server.shutdown()
            server.server_close()

    @property
    def is_up(self) -> bool:
        return self._server is not None

    def get(self, path: str) -> Reply:
        known = {
            "/health": {},
            "/weight_info": {"weight_version": self.version},
            "/get_world_size": {"world_size": self.world},
        }
        return _says(known[path]) if path in known and path != self.lacks else sends(404, '{"detail": "Not Found"}')

    def post(self, path: str, body: Any) -> Reply:
        path, _, query = path.partition("?")
        with self._lock:
            self.calls.append(f"{path}?{query}" if path in ("/sleep", "/wake_up") else path)
            if path == "/inference/v1/generate":
                self.bodies.append(body)
                nth = len(self.bodies)
        if self.faulty and path.endswith(self.faulty):
            return sends(500, '{"error": "made up"}')
        if self.asleep & NEEDED.get(path, set()):
            return sends(500, '{"error": "CUDA error: an illegal memory access"}')
        if path == "/inference/v1/generate":
            return self.script(nth, body) or self.proper(body)
        if path == "/init_weight_transfer_engine":
            info = body["init_info"]
            self._kept = KeptWeights()
            self._group = gloo_group(info["address"], info["port"], 1, info["world"])
        elif path == "/update_weights":
            self._receive(**body["update_info"])
        elif path == "/sleep":
            self.asleep = {"weights", "kv_cache"}
            self.weights = {} if query == "level=2" else self.weights
        elif path == "/wake_up":
            self.asleep.discard(query.removeprefix("tags="))
        elif path == "/finish_weight_update":
            self.weights |= dict(self._kept.merged(torch.float32))
            self.version = body["weight_version"]
        return _says({})

    def proper(self, body: dict[str, Any], **changed: Any) -> Reply:
        """The answer as vLLM gives it; `changed` replaces fields of every choice."""
        sampling = body["sampling_params"]
        banned = {int(i) for i in sampling["logit_bias"]}
        choices = []
        for index in range(sampling["n"]):
            made = made_up(sampling["seed"] + index, banned, sampling["max_tokens"], sampling["stop_token_ids"][0])
            ids = made[0]
            choice = {
                "index": index,
                "token_ids": ids,
                "finish_reason": "stop" if ids[-1] in sampling["stop_token_ids"] else "length",
                "logprobs": {"content": [{"token_id": i, "logprob": p} for i, p in zip(*made, strict=True)]},
                "weight_versions": [{"version": self.version, "start": 0, "end": len(ids)}],
            }
            choices.append(choice | changed)
        short = tuple(body["token_ids"])
        return _says({"prompt_token_ids": self.expanded.get(short, list(short)), "choices": choices[::-1]})

    def _receive(self, names: list[str], shapes: list[list[int]], dtype: str, keeps: bool) -> None:
        sizes = [torch.Size(shape).numel() for shape in shapes]
        flat = torch.empty(sum(sizes), dtype=getattr(torch, dtype))
        broadcast(self._group[0], flat).wait()
        self.received.append(flat.nbytes)
        for name, part, shape in zip(names, flat.split(sizes), shapes, strict=True):
            if keeps:
                self._kept.take(name, part.view(shape))
            else:
                self.weights[name] = part.view(shape)


class ServedCluster:
    """Scripted servers and a generator that asks them."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[Prompt], servers: list[ScriptedVllm], **settings: Any):
        """`settings` are VllmGenerator's; with `keeps` what it is told to send is."""
        self.servers, self.loaded = servers, loaded
        for server in servers:
            server.expanded = {tuple(loaded.chat.unexpanded_ids(p)): p.input_ids for p in prompts}
        self.generator = VllmGenerator(
            loaded,
            [VllmServer(server.url) for server in servers],
            self._weights if settings.get("keeps") else lambda _: checkpoint_weights(loaded.model, torch.float32),
            **{"max_rows": 8, "request_timeout_s": 20.0, "wait_s": 20.0, **settings},
        )

    @classmethod
    def start(
        cls,
        stack: contextlib.ExitStack,
        loaded: LoadedModel,
        prompts: Sequence[Prompt],
        servers: int = 1,
        **settings: Any,
    ) -> ServedCluster:
        """So many servers and their generator, which the stack closes."""
        started = [stack.enter_context(ScriptedVllm(loaded)) for _ in range(servers)]
        made = cls(loaded, prompts, started, **settings)
        stack.callback(made.generator.close)
        return made

    def _weights(self, is_whole: bool) -> Iterator[tuple[str, torch.Tensor]]:
        return separate_weights(self.loaded.model, torch.float32, (A, B), trained_alone=not is_whole)


class Expands:
    """A server's expansion of any prompt: each placeholder of an image becomes the tokens of one picture."""

    def __init__(self, loaded: LoadedModel) -> None:
        (sample,) = make_samples([1])
        prompt = loaded.chat.prompt(sample)
        short, whole = loaded.chat.unexpanded_ids(prompt), prompt.input_ids
        place = next(i for i, (a, b) in enumerate(zip(short, whole, strict=False)) if a != b)
        self._mark, after = short[place], len(short) - place - 1
        self._picture = whole[place : len(whole) - after]

    def get(self, short: Sequence[int], default: list[int]) -> list[int]:
        return [i for token in short for i in (self._picture if token == self._mark else [token])]


def _says(payload: dict[str, Any]) -> Reply:
    return sends(200, json.dumps(payload), {"Content-Type": "application/json"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: ScriptedVllm) -> None:
        self.owner, self.stopping = owner, threading.Event()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self.server.owner.get(self.path)(self)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.owner.post(self.path, json.loads(data) if data else None)
        if self.server.stopping.is_set():
            self.close_connection = True
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            reply(self)

    def log_message(self, format: str, *args: object) -> None:
        pass
