"""Starts a run's vLLM servers and starts them anew where they end.

Those of this machine listen on loopback alone; `dist/ray.py` places them on a cluster. Either kind answers nobody without
the key that is made for the run.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import torch

from seethink.config import Recipe
from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.data.image_budget import processor_options
from seethink.generate.gloo import ENGINE
from seethink.generate.token_guard import KEY, TokenGuard
from seethink.models.load import load_chat, model_path

URLS = "SEETHINK_VLLM_URLS"
"""Environment variable: addresses of the servers that the launcher started, for the ranks; separated by spaces."""
LOOPBACK = "127.0.0.1"
POLL_S = 0.5
END_S = 20.0
"""How long a server may take to end when it is asked to."""
KILL_S = 5.0
"""How long a killed one is waited for."""
LAST_WORDS = 3000
"""Characters printed of what a server wrote that ended."""
BACKENDS = {"gloo": ENGINE, "nccl": "nccl"}
"""The server's name of each `vllm.weight_sync`."""
SHARE = "0.4"
"""Of the memory of a GPU that trainer and server share, what the server may have; `vllm.args` come later and win."""
NOT_THEIRS = ("PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
DEFAULTS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
"""On a CPU no pinning to cores that ranks use too, and a gigabyte for keys and values; the user's own values come first."""


class Server(Protocol):
    """One vLLM server of a run, wherever it is."""

    url: str
    starts: int
    """How often it was started."""

    def start(self) -> None:
        """With the key of this process's environment. Raises OSError where its machine is lost."""
        ...

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        ...

    def signal(self, number: int) -> None:
        """To it and all that it started."""
        ...

    def last_words(self) -> str: ...


@dataclass
class _Local:
    """A server on this machine, and its process."""

    url: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        with self.log.open("ab") as output:
            # Of a session of its own: Ctrl-C comes once, to the launcher, and its workers end with it.
            self.process = subprocess.Popen(
                self.command, env=self.environment | {KEY: os.environ[KEY]}, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1

    def poll(self) -> int | None:
        return 0 if self.process is None else self.process.poll()

    def signal(self, number: int) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass

    def last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]


def server_count(recipe: Recipe) -> int:
    """How many vLLM servers must be started for a run: those that it samples in and nobody has started."""
    needed = recipe.stage != "sft" and recipe.rollout.engine == "vllm" and not recipe.vllm.urls
    return recipe.cluster.servers if needed else 0


@contextmanager
def local_servers(recipe: Recipe) -> Iterator[None]:
    """The servers on this machine that a recipe needs and nobody has started, for the time of the block."""
    if not server_count(recipe):
        yield
        return
    with TemporaryDirectory(prefix="seethink-servers-") as folder:
        servers = [
            _Local(
                f"http://{LOOPBACK}:{port}", server_command(recipe, LOOPBACK, port, on_gpu=bool(_gpus())),
                server_environment(recipe, i), Path(folder) / f"server{i}.txt",
            )
            for i, port in enumerate(_free_ports(recipe.cluster.servers))
        ]  # fmt: skip
        with running(servers, recipe):
            yield


@contextmanager
def running(servers: Sequence[Server], recipe: Recipe) -> Iterator[None]:
    """The recipe's servers for the time of the block; ranks find them by the variables URLS and KEY.

    One that ends is started anew at the same address, at most `cluster.max_restarts` times; a rank that finds it gives
    it the weights again. Raises UserError where the user's own key is not there.
    """
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(servers, recipe.cluster.max_restarts, over), daemon=True)
    urls = " ".join(server.url for server in servers)
    with _variables({URLS: urls, KEY: _key(recipe.vllm.api_key_env)}):
        try:
            try:
                for server in servers:
                    server.start()
            except OSError as error:
                raise UserError(
                    f"a vLLM server cannot be started: {error}; vllm.python must name the Python of an environment that "
                    "has vLLM and seethink"
                ) from None
            say(f"started {len(servers)} vLLM server(s) at {urls}; they load for a minute or more")
            watch.start()
            yield
        finally:
            over.set()
            _end(servers)


def _key(variable: str | None) -> str:
    """The user's own, or one for this run alone."""
    if variable is None:
        return secrets.token_urlsafe(32)
    if not os.environ.get(variable):
        raise UserError(f"vllm.api_key_env: the variable {variable} is not set; export {variable}=... where the run starts")
    return os.environ[variable]


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables of this process for the time of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def server_command(recipe: Recipe, host: str, port: int, *, on_gpu: bool) -> list[str]:
    """The command of one server of a recipe's model. Raises UserError."""
    words = {
        "--model": model_path(recipe.model),
        "--host": host,
        "--port": str(port),
        "--dtype": recipe.dtype,
        "--tensor-parallel-size": str(recipe.vllm.tensor_parallel),
        "--max-num-seqs": str(recipe.rollout.max_rows),
        "--logprobs-mode": "processed_logprobs",
        "--generation-config": "vllm",
        "--middleware": f"{TokenGuard.__module__}.{TokenGuard.__name__}",
        "--weight-transfer-config": json.dumps({"backend": BACKENDS[recipe.vllm.weight_sync]}),
        **_image_words(recipe),
    }
    flags = ["--enable-scale-out", *(["--trust-remote-code"] if recipe.trust_remote_code else [])]
    if recipe.vllm.sleep:
        flags += ["--enable-sleep-mode", "--gpu-memory-utilization", SHARE]
    if not on_gpu:
        if recipe.vllm.sleep:
            raise UserError("vllm.sleep: vLLM's sleep mode frees memory of GPUs, and this machine has none; set it to 0")
        # A CPU compiles for minutes what a short run does not earn back; its attention wants blocks of 32; and a request
        # with a seed ends the engine where its prompt is cut ("CPU Generator does not use offset").
        flags += ["--enforce-eager", "--block-size", "32", "--no-enable-chunked-prefill"]
    return [
        recipe.vllm.python or sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        *(word for pair in words.items() for word in pair), *flags, *recipe.vllm.args,
    ]  # fmt: skip


def _image_words(recipe: Recipe) -> dict[str, str]:
    """What `data.image_*` set on the trainer's processor, for the server's. Raises UserError."""
    if not recipe.data.image_limits:
        return {}
    chat = load_chat(recipe.model)
    chat.limit_images(recipe.data)
    return {"--mm-processor-kwargs": json.dumps(processor_options(chat.processor))}


def server_variables(host: str) -> dict[str, str]:
    """What every server at this address has in its environment."""
    return {"VLLM_SERVER_DEV_MODE": "1", "VLLM_HOST_IP": host} | loopback_alone(host)


def loopback_alone(host: str) -> dict[str, str]:
    """Keeps gloo, which would take another interface, on the one of a loopback address."""
    return {"GLOO_SOCKET_IFNAME": "lo"} if host.startswith("127.") else {}


def server_environment(recipe: Recipe, number: int) -> dict[str, str]:
    """This process's, less what is the trainer's own, with the GPUs of the server: those after the trainers', or with
    `vllm.sleep` those of the trainers."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
    environment = DEFAULTS | kept | server_variables(LOOPBACK)
    gpus = _gpus()
    if not gpus:
        return environment
    sleeps = recipe.vllm.sleep > 0
    first = (0 if sleeps else recipe.cluster.trainers) + number * recipe.vllm.tensor_parallel
    own = gpus[first : first + recipe.vllm.tensor_parallel]
    if sleeps and first + len(own) > recipe.cluster.trainers:
        raise _beyond_the_trainers(recipe)
    if len(own) < recipe.vllm.tensor_parallel:
        raise _too_few(recipe, len(gpus))
    return environment | {"CUDA_VISIBLE_DEVICES": ",".join(own)}


def _too_few(recipe: Recipe, found: int) -> UserError:
    cluster, each = recipe.cluster, recipe.vllm.tensor_parallel
    wanted = cluster.trainers + cluster.servers * each
    return UserError(
        f"cluster.trainers={cluster.trainers} and cluster.servers={cluster.servers} with {each} GPU(s) each need {wanted} "
        f"GPUs; this machine has {found}"
    )


def _beyond_the_trainers(recipe: Recipe) -> UserError:
    cluster, each = recipe.cluster, recipe.vllm.tensor_parallel
    return UserError(
        f"vllm.sleep={recipe.vllm.sleep} places servers on the GPUs of cluster.trainers={cluster.trainers}, one on each: "
        f"cluster.servers={cluster.servers} with {each} GPU(s) each need {cluster.servers * each}; set fewer, or sleep=0"
    )


def _gpus() -> list[str]:
    """The names of this machine's CUDA devices that this process may use."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] or [str(i) for i in range(count)]


def _watch(servers: Sequence[Server], most: int, over: threading.Event) -> None:
    """Start each server anew that ends."""
    away: list[Server] = []
    while not over.wait(POLL_S):
        for number, server in enumerate(servers):
            if server in away or (code := server.poll()) is None or over.is_set():
                continue
            server.signal(signal.SIGKILL)  # what it has left behind
            ended = f"vLLM server {number} ended with exit code {code}"
            then = f"it is started anew ({server.starts} of {most})" if server.starts <= most else "it stays away"
            say(f"{ended}: {then}. Its last words:\n{server.last_words()}", "bold red")
            if server.starts > most or not _starts(server):
                away.append(server)


def _starts(server: Server) -> bool:
    try:
        server.start()
    except OSError as error:
        say(f"the vLLM server at {server.url} stays away: {error}", "bold red")
        return False
    return True


def _end(servers: Sequence[Server]) -> None:
    for number, seconds in ((signal.SIGTERM, END_S), (signal.SIGKILL, KILL_S)):
        for server in servers:
            server.signal(number)
        until = time.monotonic() + seconds
        while any(server.poll() is None for server in servers) and time.monotonic() < until:
            time.sleep(POLL_S / 10)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
