"""Validation of SFT: its loss, the export of the best weights, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from seethink.config import SftConfig
from seethink.dist import agree
from seethink.train.hook import Hook
from seethink.train.step import StepResult


@dataclass
class EarlyStopping:
    """The best validation loss so far, and how many validations ago it was."""

    best: float = math.inf
    best_step: int = 0
    waited: int = 0

    def is_better(self, loss: float, step: int) -> bool:
        if loss < self.best:
            self.best, self.best_step, self.waited = loss, step, 0
            return True
        self.waited += 1
        return False


class Validation(Hook):
    """Measures `loss/val` every `sft.val_every` steps; ends the run after `sft.patience` times without a better one."""

    def __init__(
        self,
        sft: SftConfig,
        loss: Callable[[], float],
        keep_best: Callable[[], bool],
        *,
        last_step: int,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`loss` measures the weights as they are; `keep_best` exports them, and says whether the disk took them."""
        self._sft, self._loss, self._keep_best, self._last = sft, loss, keep_best, last_step
        self.stopping = EarlyStopping(**(state or {}))

    @property
    def finished(self) -> bool:  # type: ignore[override]
        return agree(self.stopping.waited >= self._sft.patience, "any")

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        if step % self._sft.val_every and step != self._last:
            return {}
        loss, before = self._loss(), replace(self.stopping)
        if self.stopping.is_better(loss, step) and not self._keep_best():
            # The folder holds the best of before, and so does the record.
            self.stopping.best, self.stopping.best_step = before.best, before.best_step
        return {"loss/val": loss}

    def state(self) -> dict[str, Any]:
        return {"stopping": asdict(self.stopping)}
