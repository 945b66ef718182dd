"""AdamW over some parameters, with warm-up, cosine decay and clipping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seethink.pretrain.settings import BaseConfig

Log = Callable[[str], None]
FLOOR = 0.02
"""The share of the learning rate that the decay ends at."""
LOG_EVERY = 100
"""Steps."""


class Descent:
    """Takes optimizer steps, and counts and reports them."""

    def __init__(self, params: list[torch.nn.Parameter], config: BaseConfig, lr: float, steps: int, log: Log) -> None:
        self._params, self._lr, self._steps, self._warmup, self._log = params, lr, steps, config.warmup, log
        groups: list[dict[str, Any]] = [
            {"params": [p for p in params if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        self.losses: list[float] = []
        self._before, self._done_before, self._started = 0.0, 0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """What the steps took, those before an interruption included."""
        return self._before + time.perf_counter() - self._started

    def state(self) -> dict[str, Tensor]:
        """Parameters and the optimizer's moments, by kind and number of the parameter."""
        tensors = {f"weight.{i}": param.detach() for i, param in enumerate(self._params)}
        for i, param in enumerate(self._params):
            tensors |= {f"{kind}.{i}": tensor for kind, tensor in self._optimizer.state.get(param, {}).items()}
        return tensors

    @torch.no_grad()
    def resume(self, state: dict[str, Tensor], losses: list[float], seconds: float) -> None:
        """Go on where `state` was taken, after `losses` and `seconds`."""
        for name, tensor in state.items():
            kind, number = name.split(".")
            param = self._params[int(number)]
            if kind == "weight":
                param.copy_(tensor)
            else:
                self._optimizer.state[param][kind] = tensor
        self.losses = list(losses)
        self._before, self._done_before, self._started = seconds, len(losses), time.perf_counter()

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of `loss`, a scalar."""
        done = len(self.losses)
        decay = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done / self._steps))
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * min(1.0, (done + 1) / self._warmup) * decay
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._params, 1.0)
        self._optimizer.step()
        self.losses.append(loss.item())
        if len(self.losses) % LOG_EVERY == 0:
            self._report()

    def _report(self) -> None:
        seconds, done = time.perf_counter() - self._started, len(self.losses)
        left = seconds / (done - self._done_before) * (self._steps - done)
        mean = np.mean(self.losses[-LOG_EVERY:])
        self._log(f"step {done}/{self._steps} loss {mean:.4f} {self.seconds:.0f}s, {left:.0f}s left")
