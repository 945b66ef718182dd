"""Places the ranks of a run on a Ray cluster: the processes that torchrun would start, one per placed actor.

Ray finds machines with room, and tells when one is lost; ranks find each other as under torchrun. seethink, the recipe,
its data and its run folder are at the same paths on every machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.dist.launch import output_of

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for the time of the run."""
ANSWER_S = 60.0
"""A machine that does not answer for so long is taken for lost."""
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux' prctl


class Place:
    """Room for one rank on one machine of the cluster; a Ray actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the actor)

    def address(self) -> tuple[str, int]:
        """This machine's address in the cluster, and a port of it that is free."""
        address = ray.util.get_node_ip_address()
        with socket.create_server((address, 0)) as server:
            return address, server.getsockname()[1]

    def start(self, words: Sequence[str], folder: str, variables: dict[str, str]) -> None:
        """`seethink train WORDS` in `folder`, with this machine's environment and `variables`."""
        command = [sys.executable, "-m", "seethink", "train", *words]
        self._process = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=self._output, stderr=self._output,
            start_new_session=True, preexec_fn=_die_with_parent,
        )  # fmt: skip

    def state(self, told: int) -> tuple[int | None, bytes]:
        """The exit code, None while it runs, and what was printed after the first `told` bytes."""
        assert self._process is not None
        code = self._process.poll()  # before its output is read, so that nothing comes after
        return code, os.pread(self._output.fileno(), 1 << 20, told)

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def _die_with_parent() -> None:
    """A rank whose actor is gone would keep its GPU."""
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)


class RemoteProcess:
    """A rank on some machine, with what `dist/launch.py` asks of a process."""

    def __init__(self, place: Any, output: Path, *, shown: bool) -> None:
        """What it prints goes to `output`, and with `shown` to this process's stdout."""
        self._place, self._output, self._shown = place, output, shown
        self._told = 0
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None; of a rank whose machine is lost that of a kill."""
        while self.returncode is None:
            try:
                code, said = ray.get(self._place.state.remote(self._told), timeout=ANSWER_S)
            except (RayError, GetTimeoutError) as error:
                self._tell(f"its machine is lost: {type(error).__name__}\n".encode())
                code, said = -signal.SIGKILL, b""
            self._tell(said)
            if not said:
                self.returncode = code
                break
        return self.returncode

    def send_signal(self, number: int) -> None:
        try:
            ray.get(self._place.signal.remote(number), timeout=ANSWER_S)
        except (RayError, GetTimeoutError):
            pass  # `poll` will tell

    def _tell(self, said: bytes) -> None:
        self._told += len(said)
        with self._output.open("ab") as file:
            file.write(said)
        if self._shown:
            sys.stdout.write(said.decode("utf-8", errors="replace"))
            sys.stdout.flush()


class Cluster:
    """A Ray cluster that this process is connected to, and the places that one start of a run has on it."""

    def __init__(self, trainers: int, wait_s: float) -> None:
        """`wait_s` is how long a start waits for room, where machines are lost or busy."""
        self._trainers, self._wait_s = trainers, wait_s
        self._group: PlacementGroup | None = None

    def start(self, words: list[str], folder: Path) -> list[RemoteProcess]:
        """Start the ranks; raises UserError where the cluster has no room for them."""
        self.release()
        places = self._places()
        host, port = ray.get(places[0].address.remote())
        shared = {"WORLD_SIZE": str(self._trainers), "MASTER_ADDR": host, "MASTER_PORT": str(port), "LOCAL_RANK": "0"}
        shared |= {"OMP_NUM_THREADS": str(self._cores())} | ({"GLOO_SOCKET_IFNAME": "lo"} if _loopback(host) else {})
        ray.get([
            place.start.remote(words, str(Path.cwd()), shared | {"RANK": str(number)})
            for number, place in enumerate(places)
        ])  # fmt: skip
        return [RemoteProcess(p, output_of(folder, n), shown=n == 0) for n, p in enumerate(places)]

    def release(self) -> None:
        """Give back the places; what still runs there is killed."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def _cores(self) -> int:
        return max(1, int(ray.cluster_resources().get("CPU", 1)) // self._trainers)

    def _places(self) -> list[Any]:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
        bundle = {"CPU": 1.0} | ({"GPU": 1.0} if gpus else {})
        self._group = placement_group([bundle] * self._trainers, strategy="PACK")
        if not self._group.wait(self._wait_s):
            self.release()
            found = {name: ray.cluster_resources().get(name, 0) for name in bundle}
            raise UserError(
                f"the Ray cluster has no room for {self._trainers} ranks of {bundle} each after {self._wait_s:g} s; "
                f"it has {found} in all"
            )
        actor = cast(Any, ray.remote(Place))
        return [
            actor.options(
                num_cpus=1, num_gpus=gpus, max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=n),
            ).remote()
            for n in range(self._trainers)
        ]  # fmt: skip


@contextmanager
def connected(address: str, trainers: int, wait_s: float) -> Iterator[Cluster]:
    """The cluster at `address` (HOST:PORT, `auto` for the one that this machine is in, or `local`).

    Raises UserError where there is none. The dashboard of a local one is off, and it sends no usage reports.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {"num_cpus": max(trainers, os.cpu_count() or 1), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(**(local if address == LOCAL else {"address": address}), log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())[:300]}") from None
    cluster = Cluster(trainers, wait_s)
    try:
        say(f"Ray: {len([n for n in ray.nodes() if n['Alive']])} machine(s), {trainers} ranks")
        yield cluster
    finally:
        cluster.release()
        ray.shutdown()


def _loopback(host: str) -> bool:
    return host.startswith("127.")
