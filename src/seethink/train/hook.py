"""What may stand beside a loop: measure a finished step, write, warn, or stop the run."""

from __future__ import annotations

from typing import Any

from seethink.train.step import StepResult


class Hook:
    """Does nothing; a hook overrides what it needs. Hooks are called in the order in which the run lists them."""

    wants_checkpoint = False
    """Whether the step that was just measured must be saved."""
    finished = False
    """Whether the run is to end after this step, complete."""

    def start(self, step: int) -> None:
        """Before the first step of a new run (0) or of a resumed one; may raise to stop the run."""

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        """Metrics to add to those of step `step`, counted from 1; `result` has what the hooks before added."""
        return {}

    def after_step(self, step: int, *, last: bool) -> None:
        """Once the step is written and, where due, saved; may raise to stop the run."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as JSON values."""
        return {}

    def sync(self) -> None:
        """Before a checkpoint: what was written must be on the disk."""

    def close(self) -> None:
        """The run is over, one way or the other."""
