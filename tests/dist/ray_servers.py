"""Run by test_ray.py in the environment of `make test-ray`: two machines with a server each, of which one is lost.

    python ray_servers.py STAND_IN

The first server is killed before, and comes back at the same address. The ranks' part of the run is left out.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.stand_in import asked
from seethink.config import make_recipe
from seethink.dist import servers
from seethink.dist.ray import connected
from seethink.generate.token_guard import KEY


def is_gone(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return True
    return False


def main(stand_in: str) -> None:
    servers.POLL_S = 0.1
    said: list[str] = []
    tell = servers.say
    servers.say = lambda line, *style: (said.append(line), tell(line, *style))[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    table = {"name": "served", "stage": "grpo", "model": "nano", "out": "unused", "data": {"train": "world:math"}}
    wanted = {"rollout": {"engine": "vllm"}, "vllm": {"python": stand_in}, "cluster": {"servers": 2, "max_restarts": 1}}
    with connected(cluster.address, make_recipe(table | wanted)):
        urls = os.environ[servers.URLS].split()
        first, second = (asked(url) for url in urls)
        assert first["environment"][KEY] == second["environment"][KEY] == os.environ[KEY]
        assert first["words"][first["words"].index("--port") + 1] == urls[0].rpartition(":")[2]
        os.kill(first["pid"], signal.SIGKILL)
        while (again := asked(urls[0]))["pid"] == first["pid"]:
            time.sleep(0.1)
        for machine in machines:
            cluster.remove_node(machine, allow_graceful=False)
        until = time.monotonic() + 240
        while not (all(map(is_gone, urls)) and any("its machine is lost" in line for line in said)):
            assert time.monotonic() < until, (urls, said)
            time.sleep(0.2)
        assert again["words"] == first["words"]
    assert servers.URLS not in os.environ
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
