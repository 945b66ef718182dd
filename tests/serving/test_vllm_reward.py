"""A real vLLM server of a reward model gives the scores that this process computes itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.asking import thought
from helpers.reward_heads import save_text_reward
from helpers.serving import PYTHON
from helpers.vllm_server import START_S, needs_vllm
from seethink.coldstart.questions import Question
from seethink.coldstart.records import Records
from seethink.coldstart.reward_checkpoint import score_by_checkpoint
from seethink.coldstart.reward_model import StoredReward, read_stored, score_by_model
from seethink.config.reward_model import RewardModelConfig

pytestmark = needs_vllm
SETTINGS = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
TRACES = [
    (f"t{n}", Question(f"q{n}", f"q{n}", f"How much is {n}?", str(n), images=[], digests=[]), thought(n) * (1 + n % 3))
    for n in range(6)
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With heads of 32, the smallest that vLLM's attention knows on a CPU."""
    return save_text_reward(tmp_path_factory.mktemp("reward") / "rm", width=128)


@pytest.fixture(scope="module")
def address(checkpoint: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(PYTHON),
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(checkpoint),
        "--runner",
        "pooling",
    ]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--enforce-eager",
        "--block-size",
        "32",
    ]
    environment = os.environ | SETTINGS | {"VLLM_CACHE_ROOT": str(PYTHON.parents[1] / "cache")}
    environment.pop("PYTHONPATH", None)
    log = checkpoint.parent / "server.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        assert server.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1.0)


def scores(folder: Path) -> dict[str, float]:
    records = map(json.loads, (folder / "rewards.jsonl").read_text().splitlines())
    return {record["key"]: record["reward"] for record in records}


def test_the_scores_are_those_of_this_process(checkpoint: Path, address: str, tmp_path: Path) -> None:
    config = RewardModelConfig(base_url=address, model=str(checkpoint), route="classify")
    with Records[StoredReward](tmp_path / "rewards.jsonl", read_stored) as records:
        score_by_model(config, tmp_path, TRACES, records)
    (tmp_path / "own").mkdir()
    with Records[StoredReward](tmp_path / "own" / "rewards.jsonl", read_stored) as records:
        score_by_checkpoint(str(checkpoint), "me", tmp_path, TRACES, records)
    own = scores(tmp_path / "own")
    assert len(set(own.values())) == len(TRACES)
    assert scores(tmp_path) == pytest.approx(own, abs=1e-4)
