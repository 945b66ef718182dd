"""The loop that all stages share: step, measure, save where due, stop where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seethink.core.console import Advance
from seethink.core.exits import RunStopped
from seethink.dist.agreement import agree, from_main
from seethink.train.hook import Hook
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.signals import StepAbandoned, StopSignals
from seethink.train.step import Stage, StepResult

Status = Callable[[StepResult], str]


class Loop:
    """A stage on its way, from a step on to its last one."""

    def __init__(
        self,
        stage: Stage,
        hooks: Sequence[Hook],
        checkpoints: Checkpoints,
        signals: StopSignals,
        *,
        step: int = 0,
        state: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """`step` is the last finished one; `state` gives what checkpoints hold besides that of stage and hooks."""
        self._stage, self._hooks, self._checkpoints, self._signals = stage, hooks, checkpoints, signals
        self.step, self._state = step, state

    def run(self, advance: Advance, status: Status) -> None:
        """Step until the stage is complete.

        Raises RunStopped after SIGTERM or Ctrl-C, and whatever a hook stops the run with; the step is saved before.
        """
        try:
            for hook in self._hooks:
                hook.start(self.step)
            while self.step < self._stage.total_steps and not any(hook.finished for hook in self._hooks):
                result = self._one_step()
                advance(1, status(result))
        except StepAbandoned:
            raise self._leave_step() from None
        except Exception:
            with self._signals.held():
                self._checkpoints.finish_writing()
            raise
        finally:
            self._signals.disarm()
            for hook in self._hooks:
                hook.close()

    def _one_step(self) -> StepResult:
        result = self._stage.step(self.step)
        step = self.step + 1
        result.metrics = from_main(lambda: result.metrics | self._checkpoints.metrics())
        for hook in self._hooks:
            result.metrics |= _of_main(hook.measure(step, result))
        last = step == self._stage.total_steps or any(hook.finished for hook in self._hooks)
        self._checkpoints.end_step(step, result.metrics, self._collect_state())
        self.step = step
        stopping = agree(self._signals.asked is not None, "any")
        wanted = agree(any(hook.wants_checkpoint for hook in self._hooks), "any")
        if last or stopping or wanted or self._checkpoints.is_due(step):
            self._save(last=last, wait=last or stopping or wanted)
        for hook in self._hooks:
            hook.after_step(step, last=last)
        if stopping and not last:
            raise self._stopped()
        return result

    def _collect_state(self) -> dict[str, Any]:
        state = self._state() | self._stage.state()
        for hook in self._hooks:
            state |= hook.state()
        return state

    def _save(self, *, last: bool = False, wait: bool = True) -> None:
        with self._signals.held():
            self._checkpoints.save(self._sync, last=last, wait=wait)

    def _sync(self) -> None:
        for hook in self._hooks:
            hook.sync()

    def _leave_step(self) -> RunStopped:
        """The grace time is over: save the step before, if the weights are still its own."""
        self._signals.disarm()
        with self._signals.held():
            self._checkpoints.wait()
        # Ranks that share the weights cannot meet for a save: each was stopped at a place of its own.
        if self._checkpoints.can_save and not self._checkpoints.needs_all_ranks:
            self._save()
        return self._stopped()

    def _stopped(self) -> RunStopped:
        saved = self._checkpoints.saved
        lost = f"; {self.step - saved} steps are done again" if self.step > saved else ""
        kept = f"the checkpoint of step {saved} is complete" if saved else "nothing to save yet"
        return RunStopped(
            f"{self._signals.asked}: stopped after step {self.step}, {kept}{lost}; --resume goes on there"
        )


def _of_main(metrics: dict[str, float]) -> dict[str, float]:
    """Rank 0's, among them its times: what follows from a metric must be the same on every rank."""
    return from_main(lambda: metrics)
