"""Ranks that share the tokens of each sequence take the step of one process; what does not go with it is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.nano import (
    gradients,
    load_nano,
    make_samples,
    nano_recipe,
    random_episode,
    relative_error,
    without_upcasts,
)
from helpers.ranks import on_ranks, train_on_ranks
from helpers.same_run import assert_same_run, short
from helpers.training import batcher_of, make_policy
from seethink.config import load_recipe
from seethink.core.errors import UserError
from seethink.dist.gradients import sum_gradients
from seethink.dist.world import is_main
from seethink.models.load import PACKAGED, LoadedModel
from seethink.models import sequence_share
from seethink.models.sequence_share import SequenceShare, refuse
from seethink.train import grpo, sft
from seethink.train.start import train

REWARDS = [[0.0, 1.0, 0.2], [1.0, 0.0, 0.8], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]]
IMAGES = (1, 0, 2, 1)
IMAGE_TOKENS = ("algorithm.token_share=0.4", "algorithm.token_measure='image'")
CASES: dict[str, tuple[str, ...]] = {
    "grpo": (),
    "grpo, packed": ("optim.pack_length=300",),
    "grpo, a row each, small": ("optim.pack_length=1", "optim.micro_tokens=150"),
    "grpo, recomputed": ("optim.gradient_checkpointing=true",),
    "grpo, connector alone": ('parts.train=["connector"]',),
    "grpo, entropies trained": ("algorithm.entropy_bonus=0.1",),
    "sft": (),
    "sft, vision frozen": ('parts.train=["connector","language"]',),
}


def one_gradient(
    loaded: LoadedModel, stage: str, model: Path, words: tuple[str, ...]
) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """The summed gradient of a step, and the step's metrics of its tokens."""
    if stage == "grpo":
        words = ("optim.shared_prompt=false", *words)
    recipe = nano_recipe(model, *words, stage=stage)
    policy = make_policy(loaded, recipe, 1)
    batcher = batcher_of(recipe, loaded)
    if stage == "sft":
        sequences = sft.Traces(make_samples(IMAGES), loaded.chat, 4096).batch(range(len(IMAGES)))
        metrics = policy.forward_backward(policy.deal(batcher, sequences), sft.response_loss)
    else:
        episode = random_episode(loaded, REWARDS, images=IMAGES)
        batches = grpo.prepare(policy, batcher, episode.groups, 16, recipe.algorithm)
        metrics = policy.forward_backward(batches, grpo.make_loss(recipe.algorithm))
    if policy.shards is None:
        sum_gradients(loaded.model.parameters())
    # Sequences come in another order, and a loss is that of a micro-batch.
    said = {
        key: [float(t.double().sum())] if key.startswith("loss/") else sorted(t.double().tolist())
        for key, t in metrics.items()
    }
    return gradients(loaded.model), said


def all_cases(model: Path, *words: str) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, list[float]]]]:
    loaded = load_nano(model, torch.float64)
    found, said = {}, {}
    with without_upcasts():
        for name, own in CASES.items():
            copy = replace(loaded, model=deepcopy(loaded.model))
            found[name], said[name] = one_gradient(copy, name.split(",")[0], model, (*own, *words))
    return found, said


def save_cases(model: Path, out: Path, *words: str) -> None:
    found, said = all_cases(model, *words)
    if is_main():
        save_file(found, out / "gradients.safetensors")
        (out / "said.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def of_one_process(random_nano: Path) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, list[float]]]]:
    return all_cases(random_nano)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "together", "shard"), [(2, 2, "none"), (2, 2, "zero3"), (4, 2, "zero2"), (4, 4, "none")]
)
def test_gradients_are_those_of_one_process(
    random_nano: Path,
    tmp_path: Path,
    world: int,
    together: int,
    shard: str,
    of_one_process: tuple[dict[str, torch.Tensor], dict[str, dict[str, list[float]]]],
) -> None:
    """Text and images mixed, in float64; four ranks have more shares than key heads, which are then copied."""
    words = (f"cluster.sequence_parallel={together}", f"cluster.shard={shard}")
    on_ranks(world, save_cases, tmp_path, random_nano, tmp_path, *words)
    theirs, said = load_file(tmp_path / "gradients.safetensors"), json.loads((tmp_path / "said.json").read_text())
    for name, gradient in of_one_process[0].items():
        assert gradient.abs().max() > 0, name
        assert relative_error(theirs[name], gradient) < 1e-12, name
        for key, values in of_one_process[1][name].items():
            assert said[name][key] == pytest.approx(values, rel=1e-9, abs=1e-12), (name, key)


@pytest.mark.slow
def test_positions_of_several_dimensions_are_shared_too(tmp_path: Path) -> None:
    """Qwen2.5-VL's M-RoPE: the gradients of two ranks are those of one process."""
    model = PACKAGED["nano-qwen"]
    alone, _ = all_cases(model)
    on_ranks(2, save_cases, tmp_path, model, tmp_path, "cluster.sequence_parallel=2", "cluster.shard=none")
    theirs = load_file(tmp_path / "gradients.safetensors")
    for name, gradient in alone.items():
        assert gradient.abs().max() > 0, name
        assert relative_error(theirs[name], gradient) < 1e-12, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "shard"), [("sft", "zero2"), ("grpo", "none"), ("lora", "zero2")]
)
def test_a_run_is_that_of_one_process(tmp_path: Path, stage: str, shard: str) -> None:
    """Decoding, validation and the guard on the same weights included."""
    words = {"cluster.sequence_parallel": 2, "cluster.shard": shard}
    if stage != "sft":
        words |= {"optim.shared_prompt": False, "algorithm.kl_beta": 0.0}
    train(load_recipe(short(tmp_path, "whole", stage, **words)))
    train_on_ranks(2, short(tmp_path, "shared", stage, **words))
    assert_same_run(tmp_path / "shared", tmp_path / "whole")


def test_what_does_not_go_with_it_is_refused(random_nano: Path) -> None:
    """Before a step: by the recipe, by the model's shape, by its kind of attention."""

    def refused(stage: str, *words: str) -> str:
        with pytest.raises(UserError) as error:
            nano_recipe(random_nano, "cluster.sequence_parallel=2", *words, stage=stage)
        return str(error.value)

    assert "PPO, whose critic scores whole sequences" in refused("ppo")
    assert "set optim.shared_prompt=false" in refused("grpo")
    assert "algorithm.kl_beta" in refused("grpo", "optim.shared_prompt=false", "algorithm.kl_beta=0.1")
    alone = "optim.shared_prompt=false"
    assert "algorithm.token_measure='image'" in refused("grpo", alone, *IMAGE_TOKENS)
    assert "rollout.environment" in refused("grpo", alone, "rollout.environment='calculator'")
    assert "optim.router_aux_coef" in refused("sft", "optim.router_aux_coef=0.01")
    assert "does not divide cluster.trainers=3" in refused("sft", "cluster.trainers=3")
    model = load_nano(random_nano).model
    refuse(model, 4)
    with pytest.raises(UserError, match="4 attention heads, which 3 does not divide"):
        refuse(model, 3)
    with pytest.raises(UserError, match="DeepStack"):
        model.model.language_model._deepstack_process = None
        refuse(model, 2)
    del model.model.language_model._deepstack_process
    model.config.get_text_config().kv_lora_rank = 16
    with pytest.raises(UserError, match="keys and values of latents"):
        refuse(model, 2)
    del model.config.get_text_config().kv_lora_rank
    model.config.get_text_config()._attn_implementation = "eager"
    with pytest.raises(UserError, match="attention is 'eager'"):
        refuse(model, 2)


def test_layers_that_would_attend_to_their_own_places_alone_are_refused() -> None:
    """Found in the first forward: a family that gives its layers no angles, or its attention no keywords."""
    share = object.__new__(SequenceShare)
    share.ranks, share.rank, share.due = 2, 1, 0
    layer, states = torch.nn.Linear(1, 1), torch.arange(8.0).view(1, 4, 2)
    layer.sequence_share = share
    (own,), _ = sequence_share._first(layer, (states,), {})
    assert torch.equal(own, states[:, 2:])
    assert sequence_share._first(layer, (states,), {"past_key_values": object()}) is None, "decoding is left alone"
    with pytest.raises(UserError, match="Linear is given no rotary angles"):
        sequence_share._each(layer, (own,), {})
    _, given = sequence_share._each(layer, (own,), {"position_embeddings": (states, states)})
    assert torch.equal(given["position_embeddings"][0], own)
    with pytest.raises(UserError, match="does not hand keywords on"):
        sequence_share._after(layer, (own,), given, own)
