"""A policy whose optimizer has its moments in 8 bits or in main memory, and updates from made-up gradients."""

from __future__ import annotations

from pathlib import Path

import torch

from helpers.nano import load_nano, nano_recipe
from helpers.training import make_policy
from seethink.models.shares import whole
from seethink.train.policy import Policy


def policy_of(model: Path, states: str, *words: str) -> Policy:
    recipe = nano_recipe(model, f"optim.states={states}", "optim.weight_decay=0.1", *words)
    return make_policy(load_nano(model), recipe, 8)


def train(policy: Policy, updates: int, seed: int = 0) -> None:
    """Updates with gradients from a seed, less at each than at the one before; vision has none in the first one."""
    for number in range(updates):
        generator = torch.Generator().manual_seed(100 * seed + number)
        for name, parameter in policy.model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) / (1 + number)
            if parameter.requires_grad and ("vision" not in name or number or seed):
                parameter.grad = _share(noise, parameter)
        policy.optimizer_step()


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([whole(p.detach()).flatten().clone() for p in policy.model.parameters()])


def _share(gradient: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
    if not hasattr(parameter, "placements"):
        return gradient
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(gradient, parameter.device_mesh, parameter.placements)  # type: ignore[no-any-return]
