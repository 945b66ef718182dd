"""Optimizer states in 8 bits and in main memory, shared by several ranks: the same updates, saved, and resumed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.moments import policy_of, train, weights
from helpers.nano import relative_error
from helpers.ranks import on_ranks
from seethink.dist.world import is_main
from seethink.runs.optimizer_state import load_shares, optimizer_tensors, restore_optimizer, save_shares

STATES = ("8bit", "cpu") if find_spec("torchao") else ("cpu",)


def resumed(model: Path, folder: Path, states: str) -> torch.Tensor:
    """The weights after two more updates from the shares and weights in `folder`."""
    policy = policy_of(model, states)
    policy.take(lambda: load_file(folder / f"{states}.safetensors"))
    restore_optimizer("policy", policy.optimizer, load_shares(folder / states, "policy", policy.optimizer))
    policy.steps_done = 2
    train(policy, 2, seed=1)
    return weights(policy)


def save_and_go_on(model: Path, folder: Path) -> None:
    for states in STATES:
        policy = policy_of(model, states)
        train(policy, 2)
        save_shares(optimizer_tensors("policy", policy.optimizer), folder / states)
        state = policy.state_dict()
        if is_main():
            save_file(state, folder / f"{states}.safetensors")
        train(policy, 2, seed=1)
        final = weights(policy)
        assert torch.equal(resumed(model, folder, states), final), "a resumed run is not the same to the last bit"
        if is_main():
            save_file({"final": final}, folder / f"{states}-final.safetensors")


@pytest.mark.slow
def test_shares_are_saved_and_resumed_on_another_number_of_ranks(random_nano: Path, tmp_path: Path) -> None:
    whole: dict[str, torch.Tensor] = {}
    for states in STATES:
        policy = policy_of(random_nano, states)
        train(policy, 2)
        train(policy, 2, seed=1)
        whole[states] = weights(policy)
    on_ranks(2, save_and_go_on, tmp_path, random_nano, tmp_path)
    for states in STATES:
        # Blocks are the same on any number of ranks; the gradient's norm is summed in another order.
        final = load_file(tmp_path / f"{states}-final.safetensors")["final"]
        assert relative_error(final, whole[states]) < 1e-6, states
        assert relative_error(resumed(random_nano, tmp_path, states), final) < 1e-6, states
