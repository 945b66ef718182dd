"""Run by test_ray.py in the environment of `make test-ray`: a cluster of two machines loses one and gets another.

Machines are Ray's own of its tests: daemons of their own on this one, with a core each.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster


def main(recipe: Path) -> int:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    command = [sys.executable, "-m", "seethink", "launch", str(recipe), "--ray", cluster.address]
    run = subprocess.Popen(command)
    while not (recipe.with_suffix("") / "checkpoints" / "step_000002").exists():
        assert run.poll() is None, "the run ended before its machine was lost"
        time.sleep(0.05)
    cluster.remove_node(machines[1], allow_graceful=False)
    time.sleep(5)
    cluster.add_node(num_cpus=1)
    code = run.wait(timeout=400)
    ray.shutdown()
    cluster.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
