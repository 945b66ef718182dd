"""Whole runs with a scripted vLLM server: one rank and two, the mismatch and its watchdog, entropies of the trainer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.nano import load_nano
from helpers.ranks import train_on_ranks
from helpers.scripted_vllm import ScriptedVllm
from seethink.config import load_recipe
from seethink.core.errors import UserError
from seethink.train.start import train
from seethink.world.make import world_samples

pytestmark = pytest.mark.slow
RECIPE = """
name = "served"
stage = "grpo"
model = "{model}"
out = "{out}"
data.train = "world:math"
data.train_size = 12
rollout = {{ engine = "vllm", prompts_per_step = 4, group_size = 3, max_new_tokens = 6 }}
vllm.urls = {urls}
algorithm = {{ steps = 3, mismatch_cap = 1.5 }}
optim.lr = 1e-3
reward.function = "helpers.nano:likes_e"
blindness.every = 0
log = {{ tensorboard = false, rollouts_every = 1 }}
"""


@pytest.fixture(scope="module")
def server(random_nano: Path) -> Iterator[ScriptedVllm]:
    loaded = load_nano(random_nano)
    with ScriptedVllm(loaded) as server:
        for prompt in map(loaded.chat.prompt, world_samples("world:math", "train", 12, 0)):
            server.expanded[tuple(loaded.chat.unexpanded_ids(prompt))] = prompt.input_ids
        yield server


def write(folder: Path, name: str, model: Path, urls: list[str]) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(model=model, out=folder / name, urls=urls))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tokens(run: Path) -> list[Any]:
    stored = sorted((run / "rollouts").glob("*.jsonl"))
    return [[c["token_ids"] for line in lines(path) for c in line["completions"]] for path in stored]


@pytest.fixture(scope="module")
def alone(server: ScriptedVllm, random_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(load_recipe(write(folder, "run", random_nano, [server.url])))
    return folder / "run"


def test_what_the_engines_disagree_on_is_measured_cut_and_told(alone: Path) -> None:
    """The scripted server's log-probs are made up: far from the trainer's."""
    steps = lines(alone / "metrics.jsonl")
    assert all(step["mismatch_kl/mean"] > 0.01 for step in steps)
    assert all(0 < step["mismatch_kl/weight"] <= 1.5 for step in steps)
    assert all(step["entropy/mean"] > 0 and step["entropy/critical_count"] >= 0 for step in steps)
    assert all(step["time/sync_s"] > 0 for step in steps)
    assert [alarm["name"] for alarm in lines(alone / "watchdogs.jsonl") if alarm["step"] == 3] == ["mismatch"]
    assert json.loads((alone / "recipe.json").read_text())["algorithm"]["mismatch_correction"] == "token"


@pytest.mark.parametrize("shard", ["zero2", "zero3"])
def test_two_ranks_make_the_run_of_one(
    alone: Path, server: ScriptedVllm, random_nano: Path, tmp_path: Path, shard: str
) -> None:
    """Their weights are sharded, and gathered one by one for the server."""
    recipe = write(tmp_path, "run", random_nano, [server.url])
    recipe.write_text(recipe.read_text() + f'cluster.shard = "{shard}"\n')
    train_on_ranks(2, recipe)
    assert tokens(tmp_path / "run") == tokens(alone)
    for record, other in zip(lines(tmp_path / "run/metrics.jsonl"), lines(alone / "metrics.jsonl"), strict=True):
        expected = {key: value for key, value in other.items() if not key.startswith(("time/", "throughput/"))}
        assert {key: record[key] for key in expected} == pytest.approx(expected, rel=2e-3, abs=2e-4)
    last = load_file(tmp_path / "run" / "checkpoints" / "step_000003" / "model.safetensors")
    assert set(last) - set(server.weights) <= {"lm_head.weight"}, "which is tied"
    assert all(torch.equal(tensor, last[name].float()) for name, tensor in server.weights.items())


def test_a_run_whose_server_sleeps_while_it_trains_is_the_same(
    alone: Path, server: ScriptedVllm, random_nano: Path, tmp_path: Path
) -> None:
    """It sleeps from the last sample of a step to the weights of the next one, and comes to no request."""
    recipe = write(tmp_path, "run", random_nano, [server.url])
    recipe.write_text(recipe.read_text() + "vllm.sleep = 2\n")
    server.calls.clear()
    train(load_recipe(recipe))
    assert tokens(tmp_path / "run") == tokens(alone)
    kinds = {"/sleep?level=2": "s", "/wake_up?tags=weights": "w", "/wake_up?tags=kv_cache": "k"}
    kinds |= {"/inference/v1/generate": "g", "/update_weights": "u"}
    assert "".join(kinds.get(call, "") for call in server.calls) == "wuk" + 3 * "ggggswuk"
    assert all(step["time/sleep_s"] > 0 for step in lines(tmp_path / "run" / "metrics.jsonl"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_that_sends_adapters_alone_is_the_same(
    server: ScriptedVllm, random_nano: Path, tmp_path: Path, ranks: int
) -> None:
    """On two ranks the weights are sharded: both iterate what is sent, all of it or the adapters."""
    last, sent = {}, {}
    for name in ("all", "trained"):
        (tmp_path / name).mkdir()  # ranks meet there
        recipe = write(tmp_path / name, "run", random_nano, [server.url])
        lora = 'lora = { parts = ["language"], rank = 4, alpha = 8.0 }\nparts.train = ["language"]\n'
        recipe.write_text(recipe.read_text() + f'vllm.send = "{name}"\n{lora}')
        server.received.clear()
        train_on_ranks(ranks, recipe)
        last[name], sent[name] = dict(server.weights), list(server.received)
    assert tokens(tmp_path / "trained" / "run") == tokens(tmp_path / "all" / "run")
    assert last["all"].keys() == last["trained"].keys()
    assert all(torch.equal(last["trained"][name], tensor) for name, tensor in last["all"].items())
    assert len(sent["all"]) == 4
    assert sum(sent["trained"][-3:]) < sum(sent["all"][-3:]) / 5


def test_a_run_without_servers_says_how_to_have_some(random_nano: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seethink launch RECIPE.*vllm\.urls"):
        train(load_recipe(write(tmp_path, "run", random_nano, [])))
