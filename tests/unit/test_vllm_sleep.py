"""Scripted vLLM servers that sleep between rollouts: in which order memory comes and goes, and what a fault costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import load_nano, make_samples
from helpers.scripted_vllm import ServedCluster, made_up
from seethink.core.types import Completion, Prompt
from seethink.generate import vllm as client
from seethink.generate.protocol import Sampling
from seethink.generate.vllm_request import completion_seed
from seethink.models.load import LoadedModel
from seethink.models.weight_stream import checkpoint_weights

SAMPLING, GROUP, SEED = Sampling(6), 3, (5, 2, 0)
CACHES = ["/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"]
Make = Callable[..., ServedCluster]


@pytest.fixture(scope="module")
def loaded(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    return [loaded.chat.prompt(sample) for sample in make_samples([1, 0])]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LOOK_S", 0.02)


@pytest.fixture
def make(loaded: LoadedModel, prompts: list[Prompt]) -> Iterator[Make]:
    with ExitStack() as stack:

        def cluster(servers: int = 1, level: int = 2, **settings: Any) -> ServedCluster:
            return ServedCluster.start(stack, loaded, prompts, servers, **{"sleep": level, **settings})

        yield cluster


def sampled(cluster: ServedCluster, prompts: list[Prompt]) -> list[list[list[int]]]:
    groups: list[list[Completion]] = cluster.generator.generate(prompts, GROUP, SAMPLING, SEED)
    return [[c.token_ids for c in group] for group in groups]


def expected(loaded: LoadedModel) -> list[list[list[int]]]:
    banned, stop = set(loaded.banned_ids), loaded.stop_ids[0]
    return [[made_up(completion_seed(SEED, p) + g, banned, 6, stop)[0] for g in range(GROUP)] for p in range(2)]


@pytest.mark.parametrize("level", [1, 2])
def test_room_for_weights_comes_before_them_and_room_for_keys_after(
    make: Make, prompts: list[Prompt], level: int
) -> None:
    cluster = make(level=level)
    server, generator = cluster.servers[0], cluster.generator
    generator.load_weights(3)
    assert sampled(cluster, prompts) == expected(cluster.loaded)
    server.calls.clear()
    generator.sleep()
    assert server.calls == [f"/sleep?level={level}"]
    generator.load_weights(4)
    assert server.calls[1:] == [
        "/wake_up?tags=weights", "/pause", "/start_weight_update", "/update_weights", "/finish_weight_update",
        "/wake_up?tags=kv_cache", *CACHES, "/resume",
    ]  # fmt: skip
    assert server.asleep == set()
    assert sampled(cluster, prompts) == expected(cluster.loaded)
    calls = len(server.calls)
    generator.load_weights(4)
    assert len(server.calls) == calls, "it is awake and has them"


def test_weights_that_have_not_moved_are_sent_again_after_a_sleep(make: Make, prompts: list[Prompt]) -> None:
    """A skipped step leaves the version as it was, and a sleep of level 2 nothing of the weights."""
    cluster = make()
    server = cluster.servers[0]
    cluster.generator.load_weights(3)
    cluster.generator.sleep()
    assert server.weights == {}
    cluster.generator.load_weights(3)
    for name, tensor in checkpoint_weights(cluster.loaded.model, torch.float32):
        assert torch.equal(server.weights[name], tensor)
    assert sampled(cluster, prompts) == expected(cluster.loaded)


def test_a_sleeping_server_is_woken_before_it_is_asked(make: Make, prompts: list[Prompt]) -> None:
    """Without `load_weights` in between: no request comes to a server without memory."""
    cluster = make(2)
    cluster.generator.load_weights(3)
    cluster.generator.sleep()
    assert sampled(cluster, prompts) == expected(cluster.loaded)
    assert [server.asleep for server in cluster.servers] == [set(), set()]


def test_one_that_another_run_has_left_asleep_is_woken(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    cluster.servers[0].asleep = {"weights", "kv_cache"}
    cluster.servers[0].version = "0123abcd-7"
    cluster.generator.load_weights(0)
    assert sampled(cluster, prompts) == expected(cluster.loaded)


def test_one_that_is_started_anew_while_it_sleeps_is_given_the_weights(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    server = cluster.servers[0]
    cluster.generator.load_weights(3)
    cluster.generator.sleep()
    server.kill()
    server.start()
    cluster.generator.load_weights(4)
    assert sampled(cluster, prompts) == expected(cluster.loaded)
    assert server.version.endswith("-4")


def test_one_that_does_not_go_to_sleep_is_told_of_and_goes_on(
    make: Make, prompts: list[Prompt], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = make(2)
    cluster.generator.load_weights(3)
    cluster.servers[0].faulty = "/sleep"
    cluster.generator.sleep()
    assert cluster.servers[1].asleep
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"did not go to sleep: .*HTTP 500.*it may keep its memory", said)
    cluster.servers[0].faulty = ""
    cluster.generator.load_weights(4)
    assert sampled(cluster, prompts) == expected(cluster.loaded)
    assert [server.version[-2:] for server in cluster.servers] == ["-4", "-4"]


def test_one_that_does_not_wake_is_left_out_in_the_end(
    make: Make, prompts: list[Prompt], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = make(2)
    cluster.generator.load_weights(3)
    cluster.servers[0].faulty = "/wake_up"
    for version in range(4, 7):
        cluster.generator.sleep()
        cluster.generator.load_weights(version)
        assert sampled(cluster, prompts) == expected(cluster.loaded)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"could not take new weights: .*wake_up.*HTTP 500.*it is left out from now on", said)
    assert cluster.servers[1].version.endswith("-6")


def test_servers_that_do_not_sleep_are_not_woken(make: Make) -> None:
    cluster = make(level=0)
    cluster.generator.load_weights(3)
    assert not [call for call in cluster.servers[0].calls if "wake" in call]
