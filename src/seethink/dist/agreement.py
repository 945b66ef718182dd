"""Decisions that all ranks of a run must share: skip a step, halve the micro-batches, save, stop."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
import torch.distributed as dist

Number = TypeVar("Number", bool, int, float)
Rule = Literal["any", "all", "max", "min", "sum"]
_OPERATIONS = {"any": "MAX", "all": "MIN", "max": "MAX", "min": "MIN", "sum": "SUM"}


def agree(value: Number, rule: Rule) -> Number:
    """The same answer on every rank; a process without a group has its own.

    `any` and `all` are of bools, `max`, `min` and `sum` of numbers (float64, exact for integers below 2**53). Every rank
    of the default process group must call it at the same place.

    Example: `if agree(loss_is_nan, "any"): skip_the_step()`
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(value), dtype=torch.float64, device=device)
    dist.all_reduce(shared, getattr(dist.ReduceOp, _OPERATIONS[rule]))
    return type(value)(shared.item())
