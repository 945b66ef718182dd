"""The optimizer, its learning-rate schedule, and gradient norms by part."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch

from seethink.config import OptimConfig
from seethink.core.errors import UserError
from seethink.models.shares import whole


def require_states(optim: OptimConfig) -> None:
    """Raises UserError where `optim.states` needs a library that is not installed."""
    if optim.states == "8bit" and importlib.util.find_spec("torchao") is None:
        raise UserError("optim.states=8bit needs the torchao library: pip install 'seethink[torchao]'")


def make_optimizer(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    """AdamW with moments as `optim.states` has them. Raises UserError where a library for them is not installed."""
    require_states(optim)
    if optim.states == "8bit":
        # torchao takes seconds to load.
        from seethink.train.eight_bit import EightBitAdamW

        return EightBitAdamW(groups, lr=optim.lr, betas=optim.betas)
    if optim.states == "cpu":
        from seethink.train.offloaded import OffloadedAdamW

        return OffloadedAdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set a parameter group's learning rate, which torchao keeps in a tensor."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def learning_rate_factor(optim: OptimConfig, step: int, total_steps: int) -> float:
    """Share of the base rate at `step` (from 0): linear warmup, then constant or cosine down to 0."""
    warmup = math.ceil(optim.warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if optim.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total_steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def what_is_not_finite(loss: torch.Tensor, metrics: dict[str, float]) -> str | None:
    """Why an update must not be made: "loss" (every log-prob reaches it) or "gradient"; None where it is in order."""
    if not math.isfinite(float(loss)):
        return "loss"
    return None if math.isfinite(metrics["optim/grad_norm"]) else "gradient"


def clip_and_measure(optimizer: torch.optim.Optimizer, max_norm: float) -> dict[str, float]:
    """Scale all gradients so that their joint norm is at most `max_norm`; norms before clipping, by part."""
    squares: dict[str, torch.Tensor] = {}
    for group in optimizer.param_groups:
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        if gradients:
            norm = whole(torch.nn.utils.get_total_norm(gradients))
            squares[group["part"]] = squares.get(group["part"], torch.zeros_like(norm)) + norm.square()
    total = sum(squares.values(), torch.zeros(())).sqrt()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total)
    metrics = {f"optim/grad_norm_{part}": float(square.sqrt()) for part, square in squares.items()}
    return metrics | {"optim/grad_norm": float(total)}
