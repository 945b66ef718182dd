"""The vLLM servers of `seethink launch`: their command, their life, and that nothing of them stays.

A few lines of Python stand for vLLM here; tests/serving runs the real one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.nano import nano_recipe
from helpers.stand_in import STAND_IN, asked
from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.dist import servers
from seethink.dist.servers import URLS, local_servers, server_command, server_environment
from seethink.generate.token_guard import KEY


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    return path


def recipe(*words: str) -> Recipe:
    return nano_recipe("nano", "rollout.engine=vllm", *words)


def local_command(wanted: Recipe, port: int) -> list[str]:
    return server_command(wanted, servers.LOOPBACK, port, on_gpu=bool(servers._gpus()))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_servers_live_as_long_as_the_block_and_come_back_when_they_are_killed(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "POLL_S", 0.05)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("PYTHONPATH", "src")
    with local_servers(recipe(f"vllm.python={stand_in}", "cluster.servers=2", "cluster.max_restarts=1")):
        urls = os.environ[URLS].split()
        first, second = (asked(url) for url in urls)
        assert len({first["pid"], second["pid"], os.getpid()}) == 3
        assert not {"RANK", "PYTHONPATH"} & set(first["environment"])
        assert first["environment"]["VLLM_SERVER_DEV_MODE"] == "1"
        assert first["environment"][KEY] == second["environment"][KEY] == os.environ[KEY]
        os.kill(first["pid"], signal.SIGKILL)
        while (again := asked(urls[0]))["pid"] == first["pid"]:
            time.sleep(0.05)
        assert again["words"] == first["words"]
        os.kill(again["pid"], signal.SIGKILL)
        time.sleep(0.5)
        pids = [first["pid"], again["pid"], second["pid"]]
        assert [is_alive(pid) for pid in pids] == [False, False, True]
    assert not any(map(is_alive, pids))
    assert not {URLS, KEY} & set(os.environ)
    said = " ".join(capsys.readouterr().out.split())
    assert "vLLM server 0 ended with exit code -9: it is started anew (1 of 1)" in said
    assert "it stays away" in said
    assert "loading the model" in said


def test_the_key_is_the_users_own_where_one_is_named(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = recipe(f"vllm.python={stand_in}", "vllm.api_key_env=OWN_KEY")
    with pytest.raises(UserError, match="the variable OWN_KEY is not set"), local_servers(named):
        pass
    monkeypatch.setenv("OWN_KEY", "opensesame")
    with local_servers(named):
        assert asked(os.environ[URLS])["environment"][KEY] == "opensesame"
    with local_servers(recipe(f"vllm.python={stand_in}")):
        assert len(os.environ[KEY]) > 40


def test_a_python_that_is_not_there_is_named() -> None:
    with (
        pytest.raises(UserError, match=r"/nothing.*vllm.python must name"),
        local_servers(recipe("vllm.python=/nothing")),
    ):
        pass
    assert URLS not in os.environ


def test_they_end_when_the_block_fails(stand_in: Path) -> None:
    pids = []

    def fail() -> None:
        with local_servers(recipe(f"vllm.python={stand_in}")):
            pids.append(asked(os.environ[URLS])["pid"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [is_alive(pid) for pid in pids] == [False]


@pytest.mark.parametrize("words", [("vllm.urls=['http://127.0.0.1:1']",), ("rollout.engine=in_process",)])
def test_none_is_started_where_none_is_needed(words: tuple[str, ...]) -> None:
    with local_servers(recipe("vllm.python=/nothing/there", *words)):
        assert URLS not in os.environ


def test_the_command_says_what_the_client_relies_on() -> None:
    words = local_command(recipe("rollout.max_rows=32", "vllm.args=['--max-model-len','512']"), 8123)
    assert words[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    pairs = dict(pairwise(words))
    assert (pairs["--host"], pairs["--port"], pairs["--dtype"]) == ("127.0.0.1", "8123", "float32")
    assert (pairs["--logprobs-mode"], pairs["--generation-config"]) == ("processed_logprobs", "vllm")
    assert (pairs["--max-num-seqs"], pairs["--max-model-len"]) == ("32", "512")
    assert json.loads(pairs["--weight-transfer-config"]) == {"backend": "seethink_gloo"}
    assert "--enable-scale-out" in words
    assert "--no-enable-chunked-prefill" in words
    assert pairs["--middleware"] == "seethink.generate.token_guard.TokenGuard"
    assert Path(pairs["--model"], "config.json").is_file()
    nccl = local_command(recipe("vllm.weight_sync=nccl"), 1)
    assert '{"backend": "nccl"}' in nccl


def test_servers_have_the_gpus_behind_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_gpus", lambda: [str(i) for i in range(8)])
    wanted = recipe("cluster.trainers=2", "cluster.servers=3", "vllm.tensor_parallel=2")
    devices = [server_environment(wanted, number)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert devices == ["2,3", "4,5", "6,7"]
    assert "--enforce-eager" not in local_command(wanted, 1)
    with pytest.raises(UserError, match=r"need 10 GPUs; this machine has 8"):
        server_environment(recipe("cluster.trainers=2", "cluster.servers=4", "vllm.tensor_parallel=2"), 3)


def test_servers_that_sleep_have_the_gpus_of_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_gpus", lambda: [str(i) for i in range(8)])
    words = ("vllm.sleep=2", "cluster.trainers=4", "vllm.tensor_parallel=2")
    wanted = recipe(*words, "cluster.servers=2", "vllm.args=['--gpu-memory-utilization','0.6']")
    devices = [server_environment(wanted, number)["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert devices == ["0,1", "2,3"]
    command = local_command(wanted, 1)
    assert "--enable-sleep-mode" in command
    assert [second for first, second in pairwise(command) if first == "--gpu-memory-utilization"] == ["0.4", "0.6"]
    assert "--enable-sleep-mode" not in local_command(recipe(), 1)
    with pytest.raises(UserError, match=r"on the GPUs of cluster.trainers=4.*need 6; set fewer, or sleep=0"):
        server_environment(recipe(*words, "cluster.servers=3"), 2)
    with pytest.raises(UserError, match=r"need 8"):  # this machine has enough, and the trainers have not
        server_environment(recipe(*words, "cluster.servers=4"), 3)


def test_servers_cannot_sleep_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_gpus", list)
    with pytest.raises(UserError, match=r"vllm.sleep: .*this machine has none"):
        local_command(recipe("vllm.sleep=1"), 1)
