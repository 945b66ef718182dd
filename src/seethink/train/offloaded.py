"""AdamW whose moments rest in main memory, and visit the device one parameter at a time.

torchao's `CPUOffloadOptimizer` does not serve here: it copies each gradient during the backward, before gradients are
summed over ranks and clipped, and knows neither sharded weights nor parameters without a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from seethink.models.shares import own_share


class OffloadedAdamW(torch.optim.AdamW):
    """The update of `torch.optim.AdamW(fused=True)`, to the last bit. On a CPU nothing has to move."""

    states = "cpu"

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first update: of this rank's share of it."""
        local = own_share(parameter.detach())
        return {"step": torch.zeros(())} | {key: _resting(local) for key in ("exp_avg", "exp_avg_sq")}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update what has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self.state[parameter] = self.new_state(parameter)
                _update(own_share(parameter.detach()), own_share(parameter.grad), self.state[parameter], group)


def _resting(local: Tensor) -> Tensor:
    """Zeros in main memory; pinned where there is a GPU, which reads them several times as fast."""
    return torch.zeros_like(local, device="cpu", pin_memory=local.device.type == "cuda")


def _update(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    here = {key: value.to(weight.device, non_blocking=True) for key, value in state.items()}
    adamw(
        [weight], [gradient], [here["exp_avg"]], [here["exp_avg_sq"]], [], [here["step"]],
        fused=True, amsgrad=False, maximize=False, beta1=group["betas"][0], beta2=group["betas"][1],
        lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
    )  # fmt: skip
    for key, value in state.items():
        if here[key] is not value:
            value.copy_(here[key])
