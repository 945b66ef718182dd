"""The proof that exactly the parts moved that were to learn, in the metrics and in parts.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seethink.core.files import write_json
from seethink.runs.metrics import expendable
from seethink.train.hook import Hook
from seethink.train.policy import Policy
from seethink.train.step import StepResult

FILE = "parts.json"


class PartsCheck(Hook):
    """Measures after the first step and wherever a checkpoint is due. Raises FrozenPartMovedError."""

    def __init__(self, folder: Path, policy: Policy, is_due: Callable[[int], bool], *, last_step: int) -> None:
        self._path, self._policy, self._is_due, self._last = folder / FILE, policy, is_due, last_step

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        if step not in (1, self._last) and not self._is_due(step):
            return {}
        # With a warmup or a group of equal rewards nothing need move yet; frozen parts must never.
        updated = result.metrics.get("optim/grad_norm", 0.0) > 0 and not result.faults
        change = self._policy.proof.check(updated=updated, saw_images=self._policy.saw_images)
        with expendable(FILE):
            write_json(self._path, {"parts": self._policy.proof.as_json(), "step": step, "change": change})
        return {f"parts/change_{part}": amount for part, amount in change.items()}
