"""What every stage shares around its loop: the policy, metrics, checkpoints, resuming, and stopping when asked to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from seethink.config import Recipe
from seethink.core.console import console
from seethink.core.exits import RunStopped
from seethink.core.files import disk_is_full, is_write_failure, write_json
from seethink.core.version import __version__
from seethink.models.load import LoadedModel
from seethink.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    Retention,
    drop_surplus,
    export_whole,
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    restore_weights,
    save_checkpoint,
)
from seethink.runs.folder import (
    DONE,
    RunFolderError,
    final_model,
    prepare_folder,
    refuse_changes,
    seconds_so_far,
)
from seethink.runs.identity import flatten, versions
from seethink.runs.metrics import MetricsWriter, StepLines, spare
from seethink.runs.rng import restore_rng, rng_state, seed_everything
from seethink.train.hooks.bad_steps import FOLDER as BAD_STEPS
from seethink.train.hooks.bad_steps import BadSteps
from seethink.train.hooks.watchdogs import Watchdogs
from seethink.train.memory import OutOfMemory, TokenBudget
from seethink.train.policy import Policy
from seethink.train.signals import StepAbandoned, StopSignals

__all__ = [
    "DONE",
    "Run",
    "RunFolderError",
    "final_model",
    "flatten",
    "prepare_folder",
    "refuse_changes",
    "seconds_so_far",
]

T = TypeVar("T")


class Run:
    """One stage on its way: counts steps, writes metrics, saves and restores."""

    def __init__(
        self,
        recipe: Recipe,
        loaded: LoadedModel,
        total_steps: int,
        checkpoint: Checkpoint | None,
        extra: dict[str, torch.nn.Module | torch.optim.Optimizer] | None = None,
        *,
        gradient_steps: int | None = None,
    ) -> None:
        self.recipe, self.loaded, self.total_steps = recipe, loaded, total_steps
        self.folder = Path(recipe.out)
        self.policy = Policy(loaded, recipe, gradient_steps or total_steps)
        self._extra = extra or {}
        self.state: dict[str, Any] = checkpoint.state if checkpoint else {}
        self.step = checkpoint.step if checkpoint else 0
        self._saved = self.step
        """The step of the newest checkpoint."""
        if checkpoint is None:
            seed_everything(recipe.seed)
        else:
            self._restore(checkpoint)
        self.bad_steps = BadSteps(self.folder, recipe.optim.max_bad_steps, self.state.get("bad_steps", 0))
        self._watchdogs = Watchdogs(self.folder, recipe.watchdogs, recipe.stage, self.state.get("watchdogs"), self.step)
        self._budget = TokenBudget(recipe, self.state.get("micro_tokens"))
        self._score: float | None = self.state.get("score")
        self._stop = StopSignals(recipe.checkpoint.grace_s)
        self._end: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None
        """What a checkpoint of the last finished step holds beside weights and optimizer; None before the first."""
        self._weights_moved = False
        """Whether an optimizer has stepped since then."""
        self._watch_optimizers()
        self._failed_saves = 0
        self._to_log: dict[str, float] = {}
        kept = recipe.checkpoint
        self._retention = Retention(kept.keep, kept.keep_best, kept.best_mode)
        if checkpoint is not None:
            # The run may have been killed after a save and before the old checkpoints went.
            drop_surplus(self.folder / "checkpoints", self._retention)
        self._drop_later_files()
        board = recipe.log.tensorboard
        self._writer = MetricsWriter(self.folder, tensorboard=board, resume_step=self.step)
        self._entropy = StepLines(self.folder / "entropy.jsonl", self.step)
        self._step_started = time.perf_counter()
        if checkpoint is None:
            console.print(self.policy.proof.table())
        else:
            console.print(f"resuming {self.folder} after step {self.step}")

    # --- state

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.policy.optimizer, *(t for t in self._extra.values() if isinstance(t, torch.optim.Optimizer))]

    def _watch_optimizers(self) -> None:
        """From the first update of a step until its end the state on hand is that of no step."""

        def moves(*_: Any) -> None:
            self._weights_moved = True

        for optimizer in self._optimizers():
            optimizer.register_step_pre_hook(moves)

    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors = load_tensors(checkpoint)
        restore_weights(self.loaded, checkpoint, tensors, trust_remote_code=self.recipe.trust_remote_code)
        restore_optimizer("policy", self.policy.optimizer, tensors)
        for name, thing in self._extra.items():
            if isinstance(thing, torch.optim.Optimizer):
                restore_optimizer(name, thing, tensors)
            else:
                prefix = f"{name}/"
                thing.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self.policy.steps_done = checkpoint.state["gradient_steps"]
        self.policy.saw_images = checkpoint.state["saw_images"]
        restore_rng(tensors, checkpoint.state["rng"])

    def _drop_later_files(self) -> None:
        """What an interrupted run wrote of steps that are done again: the report must not show it twice."""
        for folder in ("rollouts", BAD_STEPS):
            for path in (self.folder / folder).glob("step_*"):
                number = path.stem.removeprefix("step_")
                if number.isdigit() and int(number) > self.step:
                    path.unlink()

    def _snapshot(self, state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """All of the state that changes within the next step before its optimizers do."""
        tensors, rng = rng_state()
        return tensors, {
            **state,
            "gradient_steps": self.policy.steps_done,
            "saw_images": self.policy.saw_images,
            "bad_steps": self.bad_steps.in_row,
            "watchdogs": self._watchdogs.state,
            "micro_tokens": self._budget.state,
            "score": self._score,
            "versions": versions(),
            "rng": rng,
        }

    # --- a step

    def fit(self, work: Callable[[Recipe], T], *, longest: int) -> T:
        """Do the step's update with micro-batches that fit into memory; `longest` is its longest sequence."""

        def reset() -> None:
            if self._weights_moved:
                raise OutOfMemory(
                    "out of memory after the first update of a step, so that it cannot be done again: lower "
                    f"optim.micro_tokens below {self._budget.tokens:,} and resume (--allow optim.micro_tokens)"
                )
            for optimizer in self._optimizers():
                optimizer.zero_grad(set_to_none=True)

        return self._budget.run(work, reset, longest=longest)

    def log(self, metrics: dict[str, float], entropy: dict[str, Any] | None = None) -> None:
        """End the step: prove the parts where due, write its record, and what was measured of its entropies."""
        self.step += 1
        now = time.perf_counter()
        metrics["time/step_s"] = now - self._step_started
        metrics |= self._to_log
        self._to_log = {}
        self._step_started = now
        if self.step == 1 or self._is_due():
            # With a warmup or a group of equal rewards nothing need move yet; frozen parts must never.
            updated = metrics.get("optim/grad_norm", 0.0) > 0 and not metrics.get("optim/skipped")
            change = self.policy.proof.check(updated=updated, saw_images=self.policy.saw_images)
            metrics |= {f"parts/change_{part}": amount for part, amount in change.items()}
            about = {"parts": self.policy.proof.as_json(), "step": self.step, "change": change}
            with spare("parts.json"):
                write_json(self.folder / "parts.json", about)
        metrics |= self._watchdogs.see(self.step, metrics)
        score = metrics.get(self.recipe.checkpoint.best_metric or "", math.nan)
        self._score = score if math.isfinite(score) else self._score
        self._writer.write(self.step, metrics)
        if entropy is not None:
            self._entropy.write({"step": self.step, **entropy})

    def _is_due(self) -> bool:
        return self.step % self.recipe.checkpoint.every == 0 or self.step == self.total_steps

    def save_if_due(self, state: dict[str, Any], *, force: bool = False) -> None:
        """Checkpoint at every `checkpoint.every` steps, at the end, and where the run is asked to stop.

        Raises RunStopped then, BadNumbersError after too many skipped steps, StoppedByWatchdog on an alarm to stop for.
        """
        self._end = self._snapshot(state)
        self._weights_moved = False
        if self._is_due() or force or self._stop.asked or self._watchdogs.wants_checkpoint:
            self._save()
        self.bad_steps.stop_if_hopeless()
        if self.step == self.total_steps:
            return
        if self._stop.asked:
            raise self._stopped()
        self._watchdogs.stop_if_asked(self.step)

    # --- saving

    def _save(self) -> None:
        """A checkpoint of the last finished step. A disk that fails stops the run at its very end only."""
        assert self._end is not None
        started = time.perf_counter()
        with self._stop.held():
            try:
                self._writer.sync()
                self._entropy.sync()
                self._write_checkpoint(*self._end)
                self._saved = self.step
            except Exception as error:
                if not is_write_failure(error):
                    raise
                self._could_not_save(error)
        self._to_log["time/checkpoint_s"] = time.perf_counter() - started
        if self._failed_saves:
            self._to_log["checkpoint/failed"] = float(self._failed_saves)

    def _write_checkpoint(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        tensors = tensors | optimizer_tensors("policy", self.policy.optimizer)
        for name, thing in self._extra.items():
            if isinstance(thing, torch.optim.Optimizer):
                tensors |= optimizer_tensors(name, thing)
            else:
                tensors |= {f"{name}/{k}": v for k, v in thing.state_dict().items()}
        about = {
            "seethink": __version__,
            "stage": self.recipe.stage,
            "from": self.recipe.model,
            "step": self.step,
        }
        kept = self.recipe.checkpoint
        if kept.keep_best and self._score is None:
            console.print(f"checkpoint.best_metric: no step has had {kept.best_metric!r} yet", style="yellow")
        save_checkpoint(
            self.folder / "checkpoints", self.step, self.loaded, tensors, state, about, keep=self._retention
        )

    def keep_best(self, folder: Path) -> bool:
        """Export the weights as they are to a folder of their own; False where the disk did not take them."""
        try:
            with self._stop.held():
                export_whole(self.loaded, folder, {"from": self.recipe.model, "step": self.step + 1})
        except Exception as error:
            if not is_write_failure(error):
                raise
            self._failed_saves += 1
            _shout(f"THE BEST WEIGHTS WERE NOT SAVED: {_reason(error)}; those of before are still in {folder}")
            return False
        return True

    def _could_not_save(self, error: Exception) -> None:
        self._failed_saves += 1
        kept = f"that of step {self._saved} is still the newest" if self._saved else "there is none yet"
        said = f"the checkpoint of step {self.step} was not saved: {_reason(error)}; {kept}"
        if self.step == self.total_steps:
            raise CheckpointError(f"{said}. Free some room and resume: what is missing is trained again") from None
        _shout(f"CHECKPOINT FAILED: {said}. Training goes on; the next is tried as planned")

    # --- the end

    def finish(self, summary: dict[str, Any], final: Path) -> None:
        """Mark the run complete; `final` is the checkpoint that the next stage starts from."""
        about = {"final": str(final.relative_to(self.folder)), "step": self.step, **summary}
        write_json(self.folder / DONE, about)
        if self._stop.asked:
            raise RunStopped(f"{self._stop.asked}: {self.folder} finished just then")

    def _stopped(self) -> RunStopped:
        lost = f"; {self.step - self._saved} steps are done again" if self.step > self._saved else ""
        saved = f"the checkpoint of step {self._saved} is complete" if self._saved else "nothing to save yet"
        return RunStopped(f"{self._stop.asked}: stopped after step {self.step}, {saved}{lost}; --resume goes on there")

    def _leave_step(self) -> RunStopped:
        """The grace time is over: save the step before, if the weights are still its own."""
        if self._end is not None and not self._weights_moved and self._saved != self.step:
            self._save()
        return self._stopped()

    def __enter__(self) -> Self:
        self._stop.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.disarm()
        try:
            if kind is StepAbandoned:
                raise self._leave_step() from None
        finally:
            self._entropy.close()
            self._writer.__exit__(kind, error, trace)
            self._stop.__exit__(kind, error, trace)


def _reason(error: Exception) -> str:
    return f"the disk is full ({error})" if disk_is_full(error) else f"{type(error).__name__}: {error}"


def _shout(line: str) -> None:
    console.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)
