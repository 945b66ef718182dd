"""One module for trainer and scorer: every forward is a call of it, and it gives what the functions below it give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers.nano import completions_of, gradients, nano_recipe, random_episode
from helpers.training import microbatches
from seethink.core.types import Microbatch
from seethink.models.load import LoadedModel
from seethink.models.logprobs import token_logprobs
from seethink.models.scorer import TokenOutputs, TokenScorer
from seethink.models.shared_prompt import SharedPrompt


def batches_of(loaded: LoadedModel, *overrides: str) -> list[Microbatch]:
    episode = random_episode(loaded, [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    completions = completions_of(episode)
    return microbatches(nano_recipe("x", *overrides), episode, completions, list(range(len(completions))), loaded)


def backward(outputs: TokenOutputs, shared: SharedPrompt | None) -> None:
    outputs.logprobs.square().sum().backward()
    if shared is not None:
        shared.backward()


@pytest.mark.parametrize("share", ["true", "false"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_it_gives_what_the_functions_give(nano64: LoadedModel, share: str, checkpointing: bool) -> None:
    [batch] = batches_of(nano64, f"optim.shared_prompt={share}")
    options = {"temperature": 0.7, "banned_ids": nano64.banned_ids}
    shared = SharedPrompt(nano64.model, batch.prefix) if batch.prefix else None
    expected = TokenOutputs(*token_logprobs(nano64.model, batch, shared=shared, **options))
    backward(expected, shared)
    gradient = gradients(nano64.model)
    nano64.model.zero_grad()
    scorer = TokenScorer(nano64, temperature=0.7, gradient_checkpointing=checkpointing)
    shared = scorer.share(batch.prefix) if batch.prefix else None
    found = scorer(batch, shared)
    backward(found, shared)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(gradients(nano64.model), gradient)
    assert not any(module.training for module in scorer.model.modules())


def test_a_wrapper_sees_every_forward_and_every_tensor(nano: LoadedModel) -> None:
    """What FSDP's hooks need: each forward is a call of the module, and tensors are found in what it returns."""
    scorer, seen = TokenScorer(nano), []
    scorer.register_forward_hook(lambda module, given, found: seen.append(found))
    [batch] = batches_of(nano)
    assert batch.prefix is not None
    shared = scorer.share(batch.prefix)
    scorer(batch, shared)
    assert len(seen) == 2
    for found in seen:
        leaves = torch.utils._pytree.tree_leaves(found)
        assert all(isinstance(leaf, Tensor) for leaf in leaves)
        assert any(leaf.requires_grad for leaf in leaves)


def test_no_weight_is_copied(nano: LoadedModel) -> None:
    held = {id(p) for p in TokenScorer(nano).parameters()}
    assert held == {id(p) for p in nano.model.parameters()}
