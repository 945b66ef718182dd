"""Experts are balanced over the whole step, whatever share of it a rank has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.families import picture, plain_experts, save_family
from helpers.nano import relative_error
from helpers.ranks import on_ranks
from seethink.config import ClusterConfig, OptimConfig
from seethink.core.types import Microbatch, Sample
from seethink.dist.world import is_main
from seethink.models.load import load_model
from seethink.models.scorer import TokenOutputs
from seethink.models.shares import whole
from seethink.rl.batching import Batcher
from seethink.rl.packing import PackedSequence
from seethink.train.policy import Policy

RESPONSES = ([5, 9, 2], [7, 7, 3, 4, 9, 9, 2], [11], [6, 5])


def loss_fn(outputs: TokenOutputs, batch: Microbatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return -(batch.weights[batch.loss_mask] * outputs.logprobs).sum(), {}


def take_step(model: Path, shard: str) -> tuple[torch.Tensor, dict[str, float]]:
    """The weights' movement in one step, in float64, and what is said of the routers."""
    loaded = load_model(str(model))
    with plain_experts(loaded.model):
        loaded = replace(loaded, model=loaded.model.double())
        optim = OptimConfig(router_aux_coef=0.5, lr=1e-3, micro_tokens=60, pack_length=1)
        policy = Policy(loaded, optim, total_steps=1, cluster=ClusterConfig(shard=shard))
        sequences = []
        for number, response in enumerate(RESPONSES):
            images = (picture(number, (40, 30)),) if number % 2 == 0 else ()
            prompt = loaded.chat.prompt(Sample(f"s{number}", "what is the sum of all", images))
            sequences.append(
                PackedSequence(
                    prompt.input_ids, response, prompt.mm_kwargs, weight=0.1, index=number, rope_ids=prompt.rope_ids
                )
            )
        before = torch.cat([whole(p.detach()).flatten().clone() for p in policy.model.parameters()])
        policy.forward_backward(policy.deal(Batcher.for_model(loaded, optim, groups=False), sequences), loss_fn)
        metrics, fault = policy.optimizer_step()
        assert fault is None
        moved = torch.cat([whole(p.detach()).flatten() for p in policy.model.parameters()]) - before
    return moved, {key: value for key, value in metrics.items() if key.startswith(("router/", "optim/grad_norm"))}


def save_step(model: Path, out: Path, shard: str) -> None:
    moved, metrics = take_step(model, shard)
    if is_main():
        save_file({"moved": moved}, out / "moved.safetensors")
        (out / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["none", "zero2", "zero3"])
def test_ranks_balance_as_one_process(tmp_path: Path, shard: str) -> None:
    model = save_family("qwen3_vl_moe", tmp_path / "model")
    moved, metrics = take_step(model, "none")
    on_ranks(2, save_step, tmp_path, model, tmp_path, shard)
    said = json.loads((tmp_path / "metrics.json").read_text())
    assert set(said) >= {"router/balancing_loss", "router/max_share", "optim/grad_norm"}
    assert said == pytest.approx(metrics, rel=1e-6)
    # Adam divides a gradient by itself, and the family's routers weigh experts in float32.
    assert relative_error(load_file(tmp_path / "moved.safetensors")["moved"], moved) < 1e-3
