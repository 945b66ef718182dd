"""A Ray cluster trains the run of one process, serves its rollouts, and goes on when it loses a machine
(`make test-ray`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from helpers.same_run import assert_same_run, numbers, short
from helpers.stand_in import STAND_IN
from seethink.config import load_recipe
from seethink.train.start import train

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-ray" / "bin" / "python"
VLLM = ROOT / ".venv-vllm" / "bin" / "python"
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no Ray environment; `make test-ray` makes it"),
]
RANKS = {"cluster.trainers": 2, "cluster.timeout_s": 120}


def in_ray_environment(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # Ray's own niceness would starve its processes on a machine that runs other tests.
    quiet = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "160", "RAY_worker_niceness": "0"}
    environment = os.environ | quiet
    command = [str(PYTHON), *words]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one process."""
    folder = tmp_path_factory.mktemp("whole")
    train(load_recipe(short(folder, "whole", "grpo")))
    return folder / "whole"


def test_a_cluster_takes_a_step(tmp_path: Path) -> None:
    """The shortest of these, for `make smoke-ray`."""
    recipe = short(tmp_path, "placed", "grpo", **RANKS, **{"algorithm.steps": 1})
    done = in_ray_environment("-m", "seethink", "launch", recipe.name, "--ray", "local", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ray: 1 machine(s), 2 ranks" in done.stdout
    assert [record["step"] for record in numbers(tmp_path / "placed")] == [1]
    assert (tmp_path / "placed" / "checkpoints" / "step_000001" / "manifest.json").is_file()


def test_a_cluster_trains_the_run_of_one_process(whole: Path, tmp_path: Path) -> None:
    recipe = short(tmp_path, "placed", "grpo", **RANKS)
    done = in_ray_environment("-m", "seethink", "launch", recipe.name, "--ray", "local", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ray: 1 machine(s), 2 ranks" in done.stdout
    assert "checkpoint: " in done.stdout  # what rank 0 says
    assert_same_run(tmp_path / "placed", whole)


def test_a_lost_machine_costs_nothing(whole: Path, tmp_path: Path) -> None:
    recipe = short(tmp_path, "placed", "grpo", **RANKS)
    done = in_ray_environment(str(ROOT / "tests" / "dist" / "ray_loss.py"), str(recipe), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the run goes on from its newest checkpoint (restart 1 of 3)" in done.stdout
    assert_same_run(tmp_path / "placed", whole)


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    recipe = short(tmp_path, "wrong", "grpo", **RANKS, **{"data.train": "nothing.jsonl"})
    done = in_ray_environment("-m", "seethink", "launch", str(recipe), "--ray", "local", folder=tmp_path)
    assert done.returncode == 2
    assert (done.stdout + done.stderr).count("error:") == 1
    assert "nothing.jsonl" in done.stdout + done.stderr


def test_servers_live_on_the_cluster_and_come_back_while_their_machine_is_there(tmp_path: Path) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=PYTHON))
    stand_in.chmod(0o755)
    done = in_ray_environment(str(ROOT / "tests" / "dist" / "ray_servers.py"), str(stand_in), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "vLLM server 0 ended with exit code -9: it is started anew (1 of 1)" in said
    assert "stays away: its machine is lost" in said


@pytest.mark.vllm
@pytest.mark.skipif(not VLLM.exists(), reason="no vLLM environment; `make test-vllm` makes it")
def test_a_cluster_trains_on_what_its_servers_sample(tmp_path: Path) -> None:
    served = {"rollout.engine": "vllm", "vllm.python": str(VLLM), "vllm.args": ["--max-model-len", "256"]}
    recipe = short(tmp_path, "placed", "grpo", **RANKS, **served, **{"algorithm.steps": 2})
    done = in_ray_environment("-m", "seethink", "launch", str(recipe), "--ray", "local", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "started 1 vLLM server(s) at http://127.0.0.1:" in done.stdout
    assert [record["mismatch_kl/mean"] < 1e-5 for record in numbers(tmp_path / "placed")] == [True, True]
