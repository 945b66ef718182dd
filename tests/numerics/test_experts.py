"""The loss that balances experts is transformers' own, over the tokens of a step, however they are divided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import load_balancing_loss_func

from helpers.families import picture, plain_experts, save_family
from helpers.nano import gradients, relative_error, without_upcasts
from seethink.config import OptimConfig
from seethink.core.errors import UserError
from seethink.core.types import Microbatch, Prompt, Sample
from seethink.models.load import LoadedModel, load_model
from seethink.models.routers import balance, routers_of
from seethink.models.scorer import TokenOutputs
from seethink.rl.batching import Batcher
from seethink.rl.packing import PackedSequence, collate, pack
from seethink.train.policy import Policy

COEF = 0.7
RESPONSES = ([5, 9, 2], [7, 7, 3, 4, 9, 9, 2], [11], [6, 5])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(save_family("qwen3_vl_moe", tmp_path_factory.mktemp("family"))))


@pytest.fixture
def double(loaded: LoadedModel) -> Iterator[LoadedModel]:
    with plain_experts(loaded.model), without_upcasts():
        yield replace(loaded, model=loaded.model.double())
    loaded.model.float()


@pytest.fixture(scope="module")
def sequences(loaded: LoadedModel) -> list[PackedSequence]:
    """With one picture, none, two, and none."""
    made = []
    for number, (count, response) in enumerate(zip((1, 0, 2, 0), RESPONSES, strict=True)):
        images = tuple(picture(10 * number + k, (40, 30)) for k in range(count))
        prompt: Prompt = loaded.chat.prompt(Sample(f"s{number}", "what is the sum of all", images))
        made.append(
            PackedSequence(
                prompt.input_ids, response, prompt.mm_kwargs, weight=0.1, index=number, rope_ids=prompt.rope_ids
            )
        )
    return made


def policy_of(loaded: LoadedModel, coef: float, **options: Any) -> Policy:
    return Policy(loaded, OptimConfig(router_aux_coef=coef, **options), total_steps=1)


def no_loss(outputs: TokenOutputs, _: Microbatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Leaves the balancing loss alone."""
    return 0.0 * outputs.logprobs.sum(), {}


def plain_loss(double: LoadedModel, sequences: list[PackedSequence]) -> torch.Tensor:
    """transformers' function on the router logits of one padded batch, from hooks of our own, with gradient."""
    batch = collate([[s] for s in sequences], double.chat.pad_id)
    logits: list[torch.Tensor] = []
    gates = [module for name, module in double.model.named_modules() if name.endswith("mlp.gate")]
    handles = [gate.register_forward_hook(lambda _, __, output: logits.append(output[0])) for gate in gates]
    double.model.model(
        input_ids=batch.input_ids,
        position_ids=torch.cat([batch.position_ids[None], batch.rope_ids]),  # type: ignore[list-item]
        **batch.mm_kwargs,
    )
    for handle in handles:
        handle.remove()
    config = double.model.config.text_config
    found: torch.Tensor = load_balancing_loss_func(
        tuple(logits), config.num_experts, config.num_experts_per_tok, batch.sequence_ids >= 0
    )
    return found


def forms(loaded: LoadedModel, sequences: list[PackedSequence]) -> dict[str, list[Microbatch]]:
    pad_id = loaded.chat.pad_id
    return {
        "one batch": [collate([[s] for s in sequences], pad_id)],
        "alone": [collate([[s]], pad_id) for s in sequences],
        "packed": pack(sequences, pack_length=90, micro_tokens=100, pad_id=pad_id),
    }


@pytest.mark.parametrize("recompute", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_loss_is_that_of_transformers(
    double: LoadedModel, sequences: list[PackedSequence], recompute: bool
) -> None:
    """Value and gradient, in float64, with padding, in rows, alone, and with layers that backward computes again.

    The family's routers weigh experts in float32, so float64 does not reach 1e-15.
    """
    policy = policy_of(double, COEF, gradient_checkpointing=recompute)
    double.model.zero_grad()
    expected = plain_loss(double, sequences)
    assert expected.dtype == torch.float64
    (COEF * expected).backward()
    wanted = gradients(double.model)
    assert wanted.abs().max() > 0
    for name, batches in forms(double, sequences).items():
        double.model.zero_grad()
        found = policy.forward_backward(batches, no_loss)
        assert float(found["loss/total"].sum()) == pytest.approx(COEF * float(expected.detach()), rel=1e-7), name
        assert relative_error(gradients(double.model), wanted) < 3e-6, name
        assert policy._experts.metrics()["router/balancing_loss"] == pytest.approx(float(expected.detach()), rel=1e-7)
    double.model.gradient_checkpointing_disable()


def test_without_a_coefficient_nothing_is_added(loaded: LoadedModel, sequences: list[PackedSequence]) -> None:
    """The statistics alone, at no further forward."""
    policy, calls = policy_of(loaded, 0.0), []
    handle = loaded.model.register_forward_pre_hook(lambda *_: calls.append(1))
    body = loaded.model.model.register_forward_pre_hook(lambda *_: calls.append(1))
    found = policy.forward_backward(forms(loaded, sequences)["one batch"], no_loss)
    handle.remove()
    body.remove()
    assert len(calls) == 1
    assert float(found["loss/total"].sum()) == 0
    metrics, fault = policy.optimizer_step()
    assert fault is None
    shares = [metrics[f"router/{key}_share"] for key in ("min", "max")]
    assert 0 <= shares[0] < 0.25 < shares[1] <= 0.5, "each token chooses 2 of 4 experts"


def test_a_step_that_balances(loaded: LoadedModel, sequences: list[PackedSequence]) -> None:
    """Steps on the loss alone lower it, from routers that favour their first expert."""
    policy = Policy(loaded, OptimConfig(router_aux_coef=1.0, lr=1e-3), total_steps=8)
    favour_the_first(loaded, lambda: policy.forward_backward(forms(loaded, sequences)["packed"], no_loss))
    policy.forget_gradients()
    losses = []
    for _ in range(8):
        policy.forward_backward(forms(loaded, sequences)["packed"], no_loss)
        metrics, _ = policy.optimizer_step()
        losses.append(metrics["router/balancing_loss"])
    assert losses[0] > 2.2
    assert losses[-1] < losses[0] - 0.1
    assert losses[-1] > 1.9, "2 experts of each token: 2 at balance"


def favour_the_first(loaded: LoadedModel, forward: Callable[[], object]) -> None:
    """Raise the mean logit of every router's first expert by 1."""
    seen: dict[Any, torch.Tensor] = {}

    def note(router: Any, given: tuple[torch.Tensor, ...]) -> None:
        seen[router] = given[0].detach().flatten(0, -2).mean(0)

    routers = [layer.mlp.gate for layer in loaded.model.model.language_model.layers]
    handles = [router.register_forward_pre_hook(note) for router in routers]
    forward()
    for router, handle in zip(routers, handles, strict=True):
        router.weight.data[0] += seen[router] / seen[router].square().sum()
        handle.remove()


def test_the_measures() -> None:
    """One layer in balance, one where an expert takes all and another nothing."""
    tokens = torch.tensor([[4.0, 4, 4, 4], [8, 8, 0, 0]])
    load = torch.stack([tokens, tokens / 2], dim=1).double()
    found = balance(load, chosen=2)
    assert found["router/max_share"] == 0.5
    assert found["router/min_share"] == 0
    assert found["router/idle_experts"] == 0.25
    assert found["router/entropy"] == pytest.approx((torch.tensor(4.0).log() + torch.tensor(2.0).log()) / 2)
    pooled = torch.tensor([12, 12, 4, 4]) / 16
    assert found["router/balancing_loss"] == pytest.approx(4 * float((pooled * pooled / 2).sum()))


def test_prompts_are_repeated_where_the_loss_counts_them(loaded: LoadedModel) -> None:
    assert Batcher.for_model(loaded, OptimConfig(), groups=True).shares_prompts
    assert not Batcher.for_model(loaded, OptimConfig(router_aux_coef=0.1), groups=True).shares_prompts


def test_dense_models_refuse_the_key(tmp_path: Path) -> None:
    dense = load_model(str(save_family("qwen3_vl", tmp_path)))
    assert routers_of(dense.model) is None
    with pytest.raises(UserError, match=r"optim.router_aux_coef=0.1: the model \(qwen3_vl\) is no mixture of experts"):
        policy_of(dense, 0.1)
    assert policy_of(dense, 0.0)._experts.metrics() == {}


def test_experts_that_are_balanced_by_a_bias_have_no_such_loss(tmp_path: Path) -> None:
    """GLM-4.5V's router adds a bias before it chooses, so that its logits do not tell the experts."""
    model = load_model(str(save_family("glm4v_moe", tmp_path))).model
    assert routers_of(model) is None
    assert model.config.text_config.router_aux_loss_coef > 0
