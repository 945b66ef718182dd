"""Scripted vLLM servers that keep the weights, and are sent what training has changed: adapters, here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import load_nano, make_samples
from helpers.scripted_vllm import ScriptedVllm, ServedCluster
from seethink.config import LoraConfig
from seethink.generate import vllm as client
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel
from seethink.models.lora import add_adapters
from seethink.models.weight_stream import checkpoint_weights

Make = Callable[..., ServedCluster]


@pytest.fixture
def loaded(random_nano: Path) -> LoadedModel:
    loaded = load_nano(random_nano)
    loaded.model.requires_grad_(False)
    add_adapters(loaded.model, LoraConfig(parts=("language",), rank=2, alpha=4.0), seed=0)
    return loaded


@pytest.fixture
def make(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(client, "LOOK_S", 0.02)
    with ExitStack() as stack:

        def cluster(servers: int = 1, **settings: Any) -> ServedCluster:
            prompts = [loaded.chat.prompt(sample) for sample in make_samples([1, 0])]
            return ServedCluster.start(stack, loaded, prompts, servers, **{"keeps": True, **settings})

        yield cluster


def step(cluster: ServedCluster, version: int) -> list[int]:
    """New adapters, pushed as this version; the bytes that each server was sent for it."""
    for server in cluster.servers:
        server.received.clear()
    with torch.no_grad():
        for name, parameter in cluster.loaded.model.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(version))
    cluster.generator.load_weights(version)
    return [sum(server.received) for server in cluster.servers]


def assert_served(cluster: ServedCluster, server: ScriptedVllm, version: int) -> None:
    assert server.version.endswith(f"-{version}")
    expected = dict(checkpoint_weights(cluster.loaded.model, torch.float32))
    assert set(server.weights) == set(expected)
    assert all(torch.equal(server.weights[name], tensor) for name, tensor in expected.items())


def adapter_bytes(loaded: LoadedModel) -> int:
    return sum(p.nbytes for name, p in loaded.model.named_parameters() if ".lora_" in name)


def test_after_the_first_time_adapters_alone_travel(make: Make) -> None:
    cluster = make(2)
    adapters = adapter_bytes(cluster.loaded)
    whole = sum(tensor.nbytes for _, tensor in checkpoint_weights(cluster.loaded.model, torch.float32))
    assert step(cluster, 0) == [whole + adapters] * 2
    for version in (1, 2):
        assert step(cluster, version) == [adapters] * 2
        for server in cluster.servers:
            assert_served(cluster, server, version)
    assert adapters < whole / 5


def test_a_server_that_is_started_anew_is_sent_all(make: Make) -> None:
    cluster = make(2)
    adapters = adapter_bytes(cluster.loaded)
    whole, _ = step(cluster, 0)
    cluster.servers[0].kill()
    cluster.servers[0].start()
    assert step(cluster, 1) == [whole] * 2
    assert step(cluster, 2) == [adapters] * 2
    for server in cluster.servers:
        assert_served(cluster, server, 2)


def test_a_server_that_failed_to_take_adapters_is_sent_all(make: Make) -> None:
    cluster = make()
    whole = step(cluster, 0)
    cluster.servers[0].faulty = "/finish_weight_update"
    step(cluster, 1)
    cluster.servers[0].faulty = ""
    assert step(cluster, 2) == whole
    assert_served(cluster, cluster.servers[0], 2)


def test_a_server_that_has_slept_merges_into_what_it_keeps(make: Make) -> None:
    """Its own copy is gone (level 2), and comes back whole from main memory."""
    cluster = make(sleep=2)
    step(cluster, 0)
    cluster.generator.sleep()
    assert cluster.servers[0].weights == {}
    assert step(cluster, 1) == [adapter_bytes(cluster.loaded)]
    assert_served(cluster, cluster.servers[0], 1)


def test_another_run_begins_with_all(make: Make, loaded: LoadedModel) -> None:
    """What the server keeps may be another run's."""
    cluster = make()
    whole = step(cluster, 0)
    other = ServedCluster(loaded, [], cluster.servers, keeps=True)
    assert step(other, 0) == whole
    assert_served(other, other.servers[0], 0)
    cluster.servers[0].expanded = {}
    prompt = loaded.chat.prompt(make_samples([0])[0])
    assert len(other.generator.generate([prompt], 2, Sampling(4), (0, 0))[0]) == 2
    other.generator.close()
