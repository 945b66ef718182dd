"""Places the ranks of a run and its vLLM servers on a Ray cluster, one per placed actor.

Ranks are the processes that torchrun would start, servers those of `dist/servers.py`. Ray finds machines with
room, and tells when one is lost; ranks find each other as under torchrun. seethink, the recipe, its data and its run
folder are at the same paths on every machine.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from seethink.config import Recipe
from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.dist.launch import output_of
from seethink.dist.ray_place import Place
from seethink.dist.servers import (
    DEFAULTS,
    LAST_WORDS,
    LOOPBACK,
    URLS,
    loopback_alone,
    running,
    server_command,
    server_count,
    server_variables,
)
from seethink.generate.token_guard import KEY

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for the time of the run."""
ANSWER_S = 60.0
"""A machine that does not answer for so long is taken for lost."""


class RemoteProcess:
    """A process on some machine, with what `dist/launch.py` asks of one."""

    def __init__(self, place: Any, output: Path, *, shown: bool = False, is_group: bool = False) -> None:
        """What it prints goes to `output`, and with `shown` to this process's stdout; with `is_group` signals go to all
        that it started."""
        self._place, self._output, self._shown, self._is_group = place, output, shown, is_group
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
            ray.get(self._place.signal.remote(number, self._is_group), timeout=ANSWER_S)
        except (RayError, GetTimeoutError):
            pass  # `poll` will tell

    def _tell(self, said: bytes) -> None:
        self._told += len(said)
        with self._output.open("ab") as file:
            file.write(said)
        if self._shown:
            sys.stdout.write(said.decode("utf-8", errors="replace"))
            sys.stdout.flush()


class RemoteServer:
    """A vLLM server on some machine, as `dist/servers.py` wants one."""

    def __init__(self, recipe: Recipe, place: Any, address: tuple[str, int], output: Path, *, on_gpu: bool) -> None:
        self._place, self._output = place, output
        host, port = address
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.starts = 0
        self._variables = server_variables(host)
        words = server_command(recipe, host, port, on_gpu=on_gpu)
        self._command = [recipe.vllm.python or "", *words[1:]]
        self._process: RemoteProcess | None = None

    def start(self) -> None:
        variables = self._variables | {KEY: os.environ[KEY]}
        try:
            ray.get(self._place.start.remote(self._command, str(Path.cwd()), variables, DEFAULTS), timeout=ANSWER_S)
        except (RayError, GetTimeoutError) as error:
            raise ConnectionError(f"its machine is lost ({type(error).__name__})") from None
        self._process = RemoteProcess(self._place, self._output, is_group=True)
        self.starts += 1

    def poll(self) -> int | None:
        return 0 if self._process is None else self._process.poll()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def last_words(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]


class Cluster:
    """A Ray cluster that this process is connected to, and the places that a run has on it."""

    def __init__(self, recipe: Recipe, folder: Path, host: str | None) -> None:
        """A start waits `cluster.timeout_s` for room, where machines are lost or busy. What servers print goes to
        `folder`. `host` is the address that all listen on, where there is but one machine."""
        self._recipe, self._folder, self._host = recipe, folder, host
        self._trainers, self._wait_s = recipe.cluster.trainers, recipe.cluster.timeout_s
        self._on_gpu = ray.cluster_resources().get("GPU", 0) > 0
        self._ranks: PlacementGroup | None = None

    def servers(self) -> list[RemoteServer]:
        """The servers that the run needs, none of them started. Raises UserError where the cluster has no room."""
        count, gpus = server_count(self._recipe), self._recipe.vllm.tensor_parallel
        if not count:
            return []
        if self._recipe.vllm.sleep:
            raise UserError("vllm.sleep shares GPUs between trainers and servers, and Ray gives each its own; set it to 0")
        places = self._places(self._room(count, gpus, "vLLM servers"), count, gpus)
        logs = [self._folder / f"server{n}.txt" for n in range(count)]
        return [
            RemoteServer(self._recipe, place, self._address(place), log, on_gpu=self._on_gpu)
            for place, log in zip(places, logs, strict=True)
        ]

    def start(self, words: list[str], folder: Path) -> list[RemoteProcess]:
        """Start the ranks; raises UserError where the cluster has no room for them."""
        self.release()
        self._ranks = self._room(self._trainers, 1, "ranks")
        places = self._places(self._ranks, self._trainers, 1)
        host, port = self._address(places[0])
        shared = {"WORLD_SIZE": str(self._trainers), "MASTER_ADDR": host, "MASTER_PORT": str(port), "LOCAL_RANK": "0"}
        shared |= {"OMP_NUM_THREADS": str(self._cores())} | loopback_alone(host)
        shared |= {name: os.environ[name] for name in (URLS, KEY) if name in os.environ}
        ray.get([
            place.start.remote(
                ["", "-m", "seethink", "train", *words], str(Path.cwd()), shared | {"RANK": str(number)}, {}
            )
            for number, place in enumerate(places)
        ])  # fmt: skip
        return [RemoteProcess(p, output_of(folder, n), shown=n == 0) for n, p in enumerate(places)]

    def release(self) -> None:
        """Give back the ranks' places; what still runs there is killed."""
        if self._ranks is not None:
            remove_placement_group(self._ranks)
            self._ranks = None

    def _address(self, place: Any) -> tuple[str, int]:
        found: tuple[str, int] = ray.get(place.address.remote(self._host))
        return found

    def _cores(self) -> int:
        cores = int(ray.cluster_resources().get("CPU", 1)) - server_count(self._recipe)
        return max(1, cores // self._trainers)

    def _room(self, count: int, gpus: int, what: str) -> PlacementGroup:
        bundle = {"CPU": 1.0} | ({"GPU": float(gpus)} if self._on_gpu else {})
        group = placement_group([bundle] * count, strategy="PACK")
        if not group.wait(self._wait_s):
            remove_placement_group(group)
            found = {name: ray.cluster_resources().get(name, 0) for name in bundle}
            raise UserError(
                f"the Ray cluster has no room for {count} {what} of {bundle} each after {self._wait_s:g} s; "
                f"it has {found} in all"
            )
        return group

    def _places(self, group: PlacementGroup, count: int, gpus: int) -> list[Any]:
        actor = cast(Any, ray.remote(Place))
        return [
            actor.options(
                num_cpus=1, num_gpus=gpus if self._on_gpu else 0, max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=n),
            ).remote()
            for n in range(count)
        ]  # fmt: skip


@contextmanager
def connected(address: str, recipe: Recipe) -> Iterator[Cluster]:
    """The cluster at `address` (HOST:PORT, `auto` for the one that this machine is in, or `local`), with the run's vLLM
    servers on it.

    Raises UserError where there is none. The dashboard of a local one is off, and it sends no usage reports.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        os.environ.setdefault("RAY_worker_niceness", "0")  # ranks are no background work, which Ray takes them for
    cores = max(recipe.cluster.trainers + server_count(recipe), os.cpu_count() or 1)
    local = {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": LOOPBACK}
    try:
        ray.init(**(local if address == LOCAL else {"address": address}), log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())[:300]}") from None
    try:
        say(f"Ray: {len([n for n in ray.nodes() if n['Alive']])} machine(s), {recipe.cluster.trainers} ranks")
        with TemporaryDirectory(prefix="seethink-servers-") as folder:
            cluster = Cluster(recipe, Path(folder), LOOPBACK if address == LOCAL else None)
            servers = cluster.servers()
            with running(servers, recipe) if servers else nullcontext():
                yield cluster
            cluster.release()
    finally:
        ray.shutdown()
