"""Numbers that are not finite: the step is skipped, what it was made of is kept, and a run that cannot go on stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import is_write_failure, write_json
from seethink.train.hook import Hook
from seethink.train.step import StepResult

FOLDER = "bad_steps"


class BadNumbersError(UserError):
    """Too many skipped steps in a row; the message says what was not finite and what to do."""


class BadSteps(Hook):
    """Counts the skipped steps in a row and writes what each was made of to `bad_steps/step_N.json`."""

    def __init__(self, folder: Path, limit: int, in_row: int = 0) -> None:
        self._folder, self._limit, self.in_row = folder / FOLDER, limit, in_row
        self._last = ""

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        """How many updates of the step were skipped."""
        faults = result.faults
        if not faults:
            self.in_row = 0
            return {"optim/skipped": 0.0}
        self.in_row += 1
        what = ", ".join(dict.fromkeys(faults))
        path = self._folder / f"step_{step:06d}.json"
        self._last = f"{what} not finite in step {step}: {path}"
        found = result.blame()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"step": step, "not_finite": list(dict.fromkeys(faults)), "samples": found})
        except Exception as error:
            if not is_write_failure(error):
                raise
            self._last += f" (not written: {error})"
        say(
            f"SKIPPED STEP {step}: {what} not finite; weights and optimizer are as they were. Its "
            f"{len(found)} samples: {path} ({self.in_row} in a row, the run stops at {self._limit})",
            "bold red",
        )
        return {"optim/skipped": float(len(faults))}

    def state(self) -> dict[str, Any]:
        return {"bad_steps": self.in_row}

    def after_step(self, step: int, *, last: bool) -> None:
        """Raises BadNumbersError where `optim.max_bad_steps` steps in a row were skipped."""
        if self.in_row >= self._limit:
            raise BadNumbersError(
                f"{self.in_row} steps in a row were skipped ({self._last}); the weights are those before them. Lower "
                "optim.lr or look at the samples, then resume (--allow optim.lr), or raise optim.max_bad_steps"
            )
