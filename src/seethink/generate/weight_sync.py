"""The trainer's weights into running vLLM servers.

Always in this order: pause, start, tensors, finish with a version, empty every cache, resume. With full caches a server
goes on with what it computed from the old weights: an image that it has seen keeps its old features.

A server that sleeps between rollouts (`vllm.sleep`) is woken for it: room for weights first, room for keys and values
once the weights are there, so that the two and a bucket never lie beside what is not needed yet.

Tensors travel in buckets. `Transfer` is how: through gloo (here; vllm_plugin.py has the server's end), or by vLLM's own
NCCL engine.
"""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.endpoint.background import BackgroundLoop
from seethink.endpoint.errors import RateLimitedError, ServerError
from seethink.generate.gloo import STEP_S, broadcast, gloo_group
from seethink.generate.vllm_server import VllmServer

T = TypeVar("T")
NamedTensors = Iterable[tuple[str, Tensor]]
BUCKET_BYTES = 256 << 20
POLL_S = 0.0005
CACHES = ("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache")


class Transfer(Protocol):
    """How a bucket of tensors reaches one server, between `start` and `finish`."""

    def send(self, names: list[str], tensors: list[Tensor], keeps: bool) -> None:
        """Return once the server has loaded them, or with `keeps` holds them until `finish`.

        The tensors have one dtype. Raises ServerError.
        """
        ...

    def close(self) -> None: ...


Connect = Callable[[VllmServer, BackgroundLoop], Transfer]


class WeightSync:
    """The connections to all servers, each of its own: one that dies takes no other with it."""

    def __init__(self, loop: BackgroundLoop, connect: Connect, *, wakes: bool = False, keeps: bool = False) -> None:
        """`wakes`: servers may be asleep, also those that another run has left so. `keeps`: they keep what they are
        sent, so that only what has changed is sent again."""
        self._loop, self._connect, self._wakes, self._keeps = loop, connect, wakes, keeps
        self._transfers: dict[str, Transfer] = {}
        self._served: dict[str, str] = {}
        """The version that was pushed last, by server."""

    def push(self, servers: list[VllmServer], weights: NamedTensors, version: str) -> None:
        """Give all servers the weights under this version. One that fails is noted as lost, and the others go on.

        `weights` is iterated to its end in any case: other ranks may take part in it.
        """
        alive = [server for server in servers if self._succeeds(server, self._open, server)]
        for names, tensors in buckets(weights):
            alive = [s for s in alive if self._succeeds(s, self._transfers[s.url].send, names, tensors, self._keeps)]
        for server in alive:
            if self._succeeds(server, self._finish, server, version):
                server.version = self._served[server.url] = version
                server.asleep = False

    def knows(self, server: VllmServer) -> bool:
        """Whether it has what was pushed last, so that only what has changed since need be."""
        return server.url in self._transfers and server.version == self._served.get(server.url)

    def close(self) -> None:
        for transfer in self._transfers.values():
            transfer.close()
        self._transfers.clear()

    def _open(self, server: VllmServer) -> None:
        if server.version != self._served.get(server.url):  # it is new, or was started anew
            self._leave(server)
        if server.url not in self._transfers:
            self._transfers[server.url] = self._connect(server, self._loop)
        self._loop.run(_start(server, wakes=self._wakes))

    def _finish(self, server: VllmServer, version: str) -> None:
        self._loop.run(_finish(server, version, wakes=self._wakes))

    def _succeeds(self, server: VllmServer, work: Callable[..., None], *args: Any) -> bool:
        """Whether `work` succeeds; else its server is lost, and joins anew when it is back."""
        try:
            work(*args)
        except (ServerError, RateLimitedError, RuntimeError) as error:  # RuntimeError: torch.distributed's
            server.lost(f"{server.url} could not take new weights: {' '.join(str(error).split())[:300]}")
            self._leave(server)
            return False
        return True

    def _leave(self, server: VllmServer) -> None:
        if (transfer := self._transfers.pop(server.url, None)) is not None:
            transfer.close()


async def _start(server: VllmServer, *, wakes: bool) -> None:
    if wakes:
        await server.post("wake_up?tags=weights", timeout_s=STEP_S)
    # What is still being answered was asked before: nobody waits for it.
    await server.post("pause?mode=abort", timeout_s=STEP_S)
    await server.post("start_weight_update", timeout_s=STEP_S)


async def _finish(server: VllmServer, version: str, *, wakes: bool) -> None:
    await server.post("finish_weight_update", {"weight_version": version}, timeout_s=STEP_S)
    if wakes:
        await server.post("wake_up?tags=kv_cache", timeout_s=STEP_S)
    for cache in CACHES:
        await server.post(cache, timeout_s=STEP_S)
    await server.post("resume", timeout_s=STEP_S)


def buckets(weights: NamedTensors) -> Iterator[tuple[list[str], list[Tensor]]]:
    """Runs of tensors of one dtype, of at most BUCKET_BYTES unless one tensor is larger."""
    names: list[str] = []
    tensors: list[Tensor] = []
    size = 0
    for name, tensor in weights:
        if tensors and (tensor.dtype != tensors[0].dtype or size + tensor.nbytes > BUCKET_BYTES):
            yield names, tensors
            names, tensors, size = [], [], 0
        names.append(name)
        tensors.append(tensor.detach())
        size += tensor.nbytes
    if names:
        yield names, tensors


def dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class GlooTransfer:
    """A gloo group of this process (rank 0) and a server's workers, beside whatever groups the run has."""

    def __init__(self, server: VllmServer, loop: BackgroundLoop) -> None:
        self._server, self._loop = server, loop
        workers = loop.run(server.workers())
        address = own_address(server)
        listener = socket.create_server((address, 0), family=_family(address))
        port = listener.getsockname()[1]
        info = {"address": address, "port": port, "world": 1 + workers}
        # Both return once they have met; where the server refuses, nobody waits for it.
        asked = loop.start(server.post("init_weight_transfer_engine", {"init_info": info}, timeout_s=STEP_S))
        met = in_background(lambda: gloo_group(address, port, 0, 1 + workers, listener=listener.detach()))
        wait([asked, met], return_when=FIRST_EXCEPTION)
        asked.result()
        self._joined = [*met.result()]
        self._broken = False

    def send(self, names: list[str], tensors: list[Tensor], keeps: bool) -> None:
        """One broadcast of all values, in the order of names."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).cpu()
        shapes = [list(tensor.shape) for tensor in tensors]
        update = {"names": names, "shapes": shapes, "dtype": dtype_name(flat), "keeps": keeps}
        answer = self._loop.start(self._server.post("update_weights", {"update_info": update}, timeout_s=STEP_S))
        try:
            _wait(broadcast(self._joined[0], flat), answer)
            answer.result()
        except Exception:
            # A group whose broadcast nobody receives would block until its timeout when it is destroyed: it never is.
            self._broken = True
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._joined))
            raise

    def close(self) -> None:
        if not self._broken:
            self._joined.clear()


def in_background(work: Callable[[], T]) -> Future[T]:
    """`work` in a thread that the process does not wait for when it ends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def own_address(server: VllmServer) -> str:
    """This machine's address as the server sees it: the loopback one for a server on it."""
    try:
        with socket.create_connection(server.address, timeout=STEP_S) as probe:
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ServerError(f"{server.url}: {error}") from None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _wait(work: Any, answer: Future[Any]) -> None:
    """Until the tensor is sent; a server that has refused it already will not receive it."""
    while not work.is_completed():
        if answer.done() and answer.exception() is not None:
            answer.result()
        time.sleep(POLL_S)
    work.wait()


class _Control:
    """What vLLM's own engines ask of a server; start and finish are `WeightSync`'s."""

    def __init__(self, server: VllmServer, loop: BackgroundLoop) -> None:
        self._server, self._loop = server, loop

    def _post(self, path: str, body: Any) -> None:
        self._loop.run(self._server.post(path, body, timeout_s=STEP_S))

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._post("init_weight_transfer_engine", {"init_info": init_info})

    def update_weights(self, update_info: Any) -> None:
        self._post("update_weights", {"update_info": update_info})

    def start_weight_update(self) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


def nccl_transfer(server: VllmServer, loop: BackgroundLoop) -> Transfer:
    """vLLM's NCCL engine between this process's GPU and the server's. Raises UserError without vLLM here."""
    from seethink.generate.vllm_plugin import NcclTransfer

    workers = loop.run(server.workers())
    address = own_address(server)
    with socket.create_server((address, 0), family=_family(address)) as free:
        port = free.getsockname()[1]
    try:
        return NcclTransfer(address, port, workers, _Control(server, loop))
    except ImportError as error:
        raise UserError(
            f"vllm.weight_sync=nccl: vLLM cannot be imported in the trainer's environment ({error}); install it there, "
            "or set vllm.weight_sync=gloo"
        ) from None


TRANSFERS: dict[str, Connect] = {"gloo": GlooTransfer, "nccl": nccl_transfer}
"""By `vllm.weight_sync`."""
