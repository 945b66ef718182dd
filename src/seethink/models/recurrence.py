"""Linear attention in float32, as transformers writes it, where the rest of a forward pass computes in half precision.

transformers turns the inputs of the gated delta rule (arXiv 2412.06464) into float32 and solves triangular systems with
them. autocast turns its products back: logits hardly change, but gradients do, by more than their own size in a tiny
MiniCPM-V 4.6 (`tests/numerics/test_recurrence.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

RULES = ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule")
"""Functions of transformers' model files; where the `fla` package is there, they call its kernels."""
_DONE = "seethink_without_autocast"


def leave_autocast(model: nn.Module) -> None:
    """Have the gated delta rule of the model's layers, if it has such, run as it is written. Twice is as once."""
    for name in {type(module).__module__ for module in model.modules()}:
        functions = vars(sys.modules[name])
        for rule in RULES:
            if rule in functions and not hasattr(functions[rule], _DONE):
                functions[rule] = _without_autocast(functions[rule])


def _without_autocast(rule: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(rule)
    def run(query: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not torch.amp.is_autocast_available(query.device.type):  # shapes alone
            return rule(query, *args, **kwargs)
        with torch.autocast(query.device.type, enabled=False):
            return rule(query, *args, **kwargs)

    setattr(run, _DONE, True)
    return run
