"""N ranks take the step that one process takes: gradients in float64, updates, what they say of them, and its faults."""

from __future__ import annotations

import json
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from helpers.ranks import on_ranks
from helpers.training import batcher_of, make_critic, make_policy
from seethink.config import Recipe
from seethink.core.errors import OtherRankError
from seethink.models import units
from seethink.dist.agreement import all_or_none, from_all, from_main
from seethink.dist.gradients import sum_gradients
from seethink.models.shares import whole
from seethink.dist.world import is_main, rank, world_size
from seethink.entropy.meter import Tokens
from seethink.models.load import LoadedModel
from seethink.train import grpo, sft
from seethink.train.entropies import EntropyProbe
from seethink.train.memory import TokenBudget
from seethink.train.policy import Policy, is_out_of_memory

REWARDS = [[0.0, 1.0, 0.2], [1.0, 0.0, 0.8], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]]
CASES: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    "grpo, text and images": ("grpo", (), (1, 0, 2, 1)),
    "grpo, small micro-batches": ("grpo", ("optim.micro_tokens=120",), (1, 0, 2, 1)),
    "grpo, connector alone": ("grpo", ('parts.train=["connector"]',), (1, 1, 2, 1)),
    "grpo, connector alone, small micro-batches, some of text alone": (
        "grpo",
        ('parts.train=["connector"]', "optim.micro_tokens=120"),
        (1, 0, 2, 1),
    ),
    "grpo, connector alone, no image": ("grpo", ('parts.train=["connector"]',), (0, 0, 0, 0)),
    "grpo, one image": ("grpo", (), (0, 0, 1, 0)),
    "grpo, no image": ("grpo", ("optim.weight_decay=0.1",), (0, 0, 0, 0)),
    "grpo, fewer prompts than ranks": ("grpo", (), (1, 0)),
    "grpo, recomputed": ("grpo", ("optim.gradient_checkpointing=true",), (1, 0, 2, 1)),
    "grpo, packed": ("grpo", ("optim.shared_prompt=false",), (1, 0, 2, 1)),
    "grpo, two epochs of two minibatches": ("grpo", ("algorithm.epochs=2", "algorithm.minibatches=2"), (1, 0, 2, 1)),
    "ppo": ("ppo", (), (1, 0, 2, 1)),
    "sft": ("sft", (), (1, 0, 2, 1)),
}


def take_step(loaded: LoadedModel, recipe: Recipe, images: tuple[int, ...]) -> tuple[torch.Tensor, dict[str, float]]:
    """Weights after one step, less those before, and its metrics; the gradient's clip and AdamW are part of it."""
    policy = make_policy(loaded, recipe, 8)
    before = _weights(policy)
    if recipe.stage == "sft":
        probe = EntropyProbe(policy, ("what", "red"), 2)
        traces = sft.Traces(make_samples(images), loaded.chat, 4096)
        sequences = traces.batch(range(len(images)))
        result = sft.update(policy, batcher_of(recipe, loaded), sequences, probe)
        assert isinstance(result.tokens, Tokens)
        metrics = result.metrics | {"tokens": float(len(result.tokens.entropies))}
        metrics["entropy"] = float(result.tokens.entropies.mean())
    else:
        critic = make_critic(recipe, loaded) if recipe.stage == "ppo" else None
        if critic is not None:
            critic.head.double()
        episode = random_episode(loaded, REWARDS[: len(images)], images=images)
        metrics, faults = grpo.update(policy, batcher_of(recipe, loaded), episode, recipe.algorithm, critic=critic)
        assert not faults
        if critic is not None:
            metrics["head"] = float(sum(p.detach().abs().sum() for p in critic.head.parameters()))
    return _weights(policy) - before, metrics


def _weights(policy: Policy) -> torch.Tensor:
    return torch.cat([whole(p.detach()).flatten().clone() for p in policy.model.parameters()])


def all_cases(model: Path, shard: str = "none") -> tuple[dict[str, torch.Tensor], dict[str, dict[str, float]]]:
    """Of every case the weights' movement and, where there is one gradient, its sum before clipping; and metrics."""
    vectors: dict[str, torch.Tensor] = {}
    measured: dict[str, dict[str, float]] = {}
    loaded = load_nano(model, torch.float64)
    for name, (stage, words, images) in CASES.items():
        recipe = nano_recipe(model, "optim.warmup_ratio=0.0", f"cluster.shard={shard}", *words, stage=stage)
        with nullcontext() if stage == "ppo" else without_upcasts():  # the critic's values are float32
            vectors[f"{name}: moved"], measured[name] = take_step(_copy(loaded), recipe, images)
            if stage == "grpo" and recipe.algorithm.epochs == 1:
                vectors[f"{name}: gradient"] = one_gradient(_copy(loaded), recipe, images)
    return vectors, measured


def _copy(loaded: LoadedModel) -> LoadedModel:
    return replace(loaded, model=deepcopy(loaded.model))


def one_gradient(loaded: LoadedModel, recipe: Recipe, images: tuple[int, ...]) -> torch.Tensor:
    policy = make_policy(loaded, recipe, 1)
    episode = random_episode(loaded, REWARDS[: len(images)], images=images)
    batches = grpo.prepare(policy, batcher_of(recipe, loaded), episode.groups, 16, recipe.algorithm)
    policy.forward_backward(batches, grpo.make_loss(recipe.algorithm))
    if policy.shards is None:
        sum_gradients(loaded.model.parameters())
    return gradients(loaded.model)


def save_cases(model: Path, out: Path, shard: str) -> None:
    if shard == "zero3":
        units.LARGE_ENCODER = 0  # the vision encoder block by block
    vectors, measured = all_cases(model, shard)
    copies = from_all({name: vector.sum().item() for name, vector in vectors.items()})
    assert all(copy == copies[0] for copy in copies), "the ranks' weights differ"
    if is_main():
        save_file(vectors, out / "vectors.safetensors")
        (out / "measured.json").write_text(json.dumps(measured))


@pytest.fixture(scope="module")
def of_one_process(random_nano: Path) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, float]]]:
    return all_cases(random_nano)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "shard"), [(2, "none"), (3, "zero2"), (2, "zero3")])
def test_ranks_take_the_step_of_one_process(
    random_nano: Path,
    tmp_path: Path,
    world: int,
    shard: str,
    of_one_process: tuple[dict[str, torch.Tensor], dict[str, dict[str, float]]],
) -> None:
    on_ranks(world, save_cases, tmp_path, random_nano, tmp_path, shard)
    theirs = load_file(tmp_path / "vectors.safetensors")
    said = json.loads((tmp_path / "measured.json").read_text())
    for name, vector in of_one_process[0].items():
        # The critic's values are float32 whatever the weights are; Adam divides a gradient by itself.
        rounding = 1e-12 if "gradient" in name else 1e-4 if "ppo" in name else 1e-8
        assert torch.equal(theirs[name], vector) or relative_error(theirs[name], vector) < rounding, name
    for name, metrics in of_one_process[1].items():
        ours = {k: v for k, v in metrics.items() if not k.startswith(("time/", "throughput/"))}
        rounding = 1e-4 if name == "ppo" else 1e-8
        assert {k: said[name][k] for k in ours} == pytest.approx(ours, rel=rounding, abs=rounding), name


def compare_copies(model: Path, plain: torch.Tensor, bfloat: torch.Tensor) -> None:
    """Two copies of the weights over two ranks each, in float64; and bfloat16 weights that are gathered from float32."""
    recipe = nano_recipe(model, "cluster.replicas=2")
    assert relative_error(one_gradient(load_nano(model, torch.float64), recipe, (1, 0, 2, 1)), plain) < 1e-12
    half = one_gradient(_in_bfloat16(model), recipe, (1, 0, 2, 1))
    assert half.dtype == torch.float32
    assert relative_error(half.double(), plain) < 1.5 * relative_error(bfloat.double(), plain)


def _in_bfloat16(model: Path) -> LoadedModel:
    return replace(load_nano(model), compute_dtype=torch.bfloat16)


@pytest.mark.slow
def test_copies_and_half_precision(random_nano: Path, tmp_path: Path) -> None:
    recipe, images = nano_recipe(random_nano), (1, 0, 2, 1)
    plain = one_gradient(load_nano(random_nano, torch.float64), recipe, images)
    bfloat = one_gradient(_in_bfloat16(random_nano), recipe, images)
    assert relative_error(bfloat.double(), plain) < 0.05
    on_ranks(4, compare_copies, tmp_path, random_nano, plain, bfloat)


def share_faults(model: Path, dtype: torch.dtype) -> None:
    """One rank's failure is everybody's."""
    loaded = replace(load_nano(model), compute_dtype=dtype)
    recipe = nano_recipe(model, "optim.micro_tokens=4000")
    policy, episode = make_policy(loaded, recipe, 1), random_episode(loaded, REWARDS)
    budget, tried = TokenBudget(batcher_of(recipe, loaded), policy), []
    real = Policy._accumulate

    def full_on_the_last(self: Policy, *args: Any) -> dict[str, torch.Tensor]:
        tried.append(budget.tokens)
        if rank() == world_size() - 1 and budget.tokens > 1000:
            raise RuntimeError("CUDA out of memory")
        return real(self, *args)

    Policy._accumulate = full_on_the_last  # type: ignore[method-assign]
    metrics, faults = budget.run(
        lambda batcher: grpo.update(policy, batcher, episode, recipe.algorithm), policy.forget_gradients, longest=9
    )
    assert tried == [4000, 2000, 1000]
    assert not faults
    assert metrics["optim/grad_norm"] > 0

    def nan_on_the_last(self: Policy, *args: Any) -> dict[str, torch.Tensor]:
        found = real(self, *args)
        if rank() == world_size() - 1:
            assert self.shards is not None
            # In half precision FSDP keeps the sum of gradients beside the parameters.
            kept = [p.grad for p in self.model.parameters()] + [
                p.unsharded_accumulated_grad for p in self.shards._parameters()
            ]
            next(gradient for gradient in kept if gradient is not None).fill_(torch.nan)
        return found

    Policy._accumulate = nan_on_the_last  # type: ignore[method-assign]
    before = _weights(policy)
    _, faults = grpo.update(policy, budget.batcher, episode, recipe.algorithm)
    assert faults
    assert torch.equal(before, _weights(policy))

    def fail() -> int:
        raise MemoryError

    mine = rank() == 1
    with pytest.raises(MemoryError if mine else OtherRankError, match="" if mine else "rank 1: MemoryError"):
        all_or_none(fail if mine else int, is_out_of_memory)
    with pytest.raises(ZeroDivisionError if is_main() else OtherRankError, match="division"):
        from_main(lambda: 1 // 0)
    assert from_main(rank) == 0
    assert from_all(rank()) == list(range(world_size()))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_fault_of_one_rank_is_everybodys(random_nano: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    on_ranks(2, share_faults, tmp_path, random_nano, dtype)
