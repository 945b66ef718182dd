"""Completions counted over the whole run, and the end of a run that may sample only so many."""

from __future__ import annotations

from seethink.rl.rollout import Rollouts
from seethink.train.hook import Hook
from seethink.train.step import StepResult


class SampleCount(Hook):
    """`rollout/samples`: completions sampled so far; ends the run where `algorithm.samples` allows no more.

    What is counted is a function of the position in the prompts, which checkpoints keep.
    """

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    @property
    def finished(self) -> bool:  # type: ignore[override]
        return self._rollouts.prompts_left == 0

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        return {"rollout/samples": float(self._rollouts.sampled)}
