"""AdamW with moments in 8 bits, by torchao; this module loads it, which takes seconds.

torchao gives the update and the quantized tensor. Which weights have one, and in what blocks, is ours
(`runs/moments.py`): torchao decides by a rank's share, so that it depends on the number of ranks.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

# It says on every import which of its CUDA kernels this machine cannot load.
logging.getLogger("torchao").setLevel(logging.ERROR)

from torchao.optim import AdamW8bit  # noqa: E402
from torchao.optim.subclass_8bit import OptimState8bit  # noqa: E402

from seethink.models.shares import own_share  # noqa: E402
from seethink.runs.moments import as_share, block_size  # noqa: E402


class EightBitAdamW(AdamW8bit):  # type: ignore[misc]
    """torchao's, with blocks that do not depend on the number of ranks."""

    states = "8bit"

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first update."""
        moments = {key: _moment(parameter, signed=key == "exp_avg") for key in ("exp_avg", "exp_avg_sq")}
        return {"step": torch.zeros(())} | moments

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update what has a gradient. On the CPU torchao's update runs as written; compiling it there needs a C++
        compiler and gains little."""
        members = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter in members:
            if not self.state[parameter]:
                self.state[parameter] = self.new_state(parameter)
        on_cpu = all(parameter.device.type == "cpu" for parameter in members)
        with torch.compiler.set_stance("force_eager" if on_cpu else "default"):
            super().step()


def _moment(parameter: Tensor, *, signed: bool) -> Tensor:
    local, block = own_share(parameter.detach()), block_size(parameter.shape)
    if block is None or not local.numel():
        return as_share(torch.zeros_like(local), parameter)
    moment = OptimState8bit.zeros(local.shape, signed, block, local.device, dtype=local.dtype)
    return as_share(moment, parameter)
