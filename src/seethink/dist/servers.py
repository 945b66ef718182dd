"""Starts a run's vLLM servers on this machine and starts them anew where they end. They listen on loopback alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from seethink.config import Recipe
from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.data.image_budget import processor_options
from seethink.generate.gloo import ENGINE
from seethink.models.load import load_chat, model_path

URLS = "SEETHINK_VLLM_URLS"
"""Environment variable: addresses of the servers that the launcher started, for the ranks; separated by spaces."""
POLL_S = 0.5
END_S = 20.0
"""How long a server may take to end when it is asked to."""
LAST_WORDS = 3000
"""Characters printed of what a server wrote that ended."""
BACKENDS = {"gloo": ENGINE, "nccl": "nccl"}
"""The server's name of each `vllm.weight_sync`."""
SHARE = "0.4"
"""Of the memory of a GPU that trainer and server share, what the server may have; `vllm.args` come later and win."""
NOT_THEIRS = ("PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
CPU_SETTINGS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
"""No pinning to cores that ranks use too, and a gigabyte for keys and values; the user's own values come first."""


@dataclass
class _Server:
    """One server and its process."""

    number: int
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        with self.log.open("ab") as output:
            # Of a session of its own: Ctrl-C comes once, to the launcher, and its workers end with it.
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        self.starts += 1

    def signal(self, number: int) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass

    def last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]


def needs_servers(recipe: Recipe) -> bool:
    """Whether a run samples in vLLM servers that nobody has started."""
    return recipe.stage != "sft" and recipe.rollout.engine == "vllm" and not recipe.vllm.urls


@contextmanager
def local_servers(recipe: Recipe) -> Iterator[None]:
    """The servers that a recipe needs and nobody has started, for the time of the block; ranks find them by URLS.

    One that ends is started anew on the same port, at most `cluster.max_restarts` times; a rank that finds it gives it
    the weights again.
    """
    if not needs_servers(recipe):
        yield
        return
    with TemporaryDirectory(prefix="seethink-servers-") as folder:
        ports = _free_ports(recipe.cluster.servers)
        servers = [
            _Server(i, server_command(recipe, port), server_environment(recipe, i), Path(folder) / f"server{i}.txt")
            for i, port in enumerate(ports)
        ]
        over = threading.Event()
        watch = threading.Thread(target=_watch, args=(servers, recipe.cluster.max_restarts, over), daemon=True)
        before = os.environ.get(URLS)
        os.environ[URLS] = " ".join(f"http://127.0.0.1:{port}" for port in ports)
        try:
            for server in servers:
                server.start()
            say(f"started {len(servers)} vLLM server(s) at {os.environ[URLS]}; they load for a minute or more")
            watch.start()
            yield
        finally:
            over.set()
            _end(servers)
            os.environ.pop(URLS) if before is None else os.environ.update({URLS: before})


def server_command(recipe: Recipe, port: int) -> list[str]:
    """The command of one server of a recipe's model."""
    words = {
        "--model": model_path(recipe.model),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": recipe.dtype,
        "--tensor-parallel-size": str(recipe.vllm.tensor_parallel),
        "--max-num-seqs": str(recipe.rollout.max_rows),
        "--logprobs-mode": "processed_logprobs",
        "--generation-config": "vllm",
        "--weight-transfer-config": json.dumps({"backend": BACKENDS[recipe.vllm.weight_sync]}),
        **_image_words(recipe),
    }
    flags = ["--enable-scale-out", *(["--trust-remote-code"] if recipe.trust_remote_code else [])]
    if recipe.vllm.sleep:
        flags += ["--enable-sleep-mode", "--gpu-memory-utilization", SHARE]
    if not _gpus():
        if recipe.vllm.sleep:
            raise UserError("vllm.sleep: vLLM's sleep mode frees memory of GPUs, and this machine has none; set it to 0")
        # A CPU compiles for minutes what a short run does not earn back; its attention wants blocks of 32.
        flags += ["--enforce-eager", "--block-size", "32"]
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


def server_environment(recipe: Recipe, number: int) -> dict[str, str]:
    """This process's, less what is the trainer's own, with the GPUs of the server: those after the trainers', or with
    `vllm.sleep` those of the trainers."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
    environment |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    environment |= {"VLLM_NO_USAGE_STATS": os.environ.get("VLLM_NO_USAGE_STATS", "1")}
    gpus = _gpus()
    if not gpus:
        return CPU_SETTINGS | environment
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


def _watch(servers: list[_Server], most: int, over: threading.Event) -> None:
    """Start each server anew that ends."""
    while not over.wait(POLL_S):
        for server in servers:
            if server.process is None or (code := server.process.poll()) is None or over.is_set():
                continue
            server.signal(signal.SIGKILL)  # what it has left behind
            again = server.starts <= most
            ended = f"vLLM server {server.number} ended with exit code {code}"
            then = f"it is started anew ({server.starts} of {most})" if again else "it stays away"
            say(f"{ended}: {then}. Its last words:\n{server.last_words()}", "bold red")
            server.process = None
            if again:
                server.start()


def _end(servers: list[_Server]) -> None:
    for server in servers:
        server.signal(signal.SIGTERM)
    until = time.monotonic() + END_S
    for server in servers:
        if server.process is not None:
            try:
                server.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            server.signal(signal.SIGKILL)
            server.process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
