"""Checkpoints of a run: what is saved, when, and what a failing disk means. runs/checkpoint.py has the format."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError

from seethink.config import CheckpointConfig
from seethink.core.console import console, say
from seethink.core.errors import OtherRankError, UserError
from seethink.core.files import disk_is_full, is_write_failure
from seethink.core.version import __version__
from seethink.dist.agreement import from_main
from seethink.dist.world import is_main
from seethink.models.load import ChatFiles, chat_files
from seethink.runs.checkpoint import (
    Checkpoint,
    NoRoomError,
    Retention,
    Weights,
    drop_surplus,
    export_bytes,
    export_whole,
    load_tensors,
    require_room,
    save_checkpoint,
    stored_weights,
)
from seethink.runs.identity import versions
from seethink.runs.optimizer_state import (
    SHARES,
    CheckpointError,
    load_shares,
    optimizer_bytes,
    optimizer_tensors,
    restore_optimizer,
)
from seethink.runs.rng import restore_rng, rng_state
from seethink.runs.snapshot import BackgroundSave, copied
from seethink.train.policy import Policy

FOLDER = "checkpoints"
Trained = Mapping[str, torch.nn.Module | torch.optim.Optimizer]


class Checkpoints:
    """Saves a step's state and restores it; a disk that fails ends the run at its very end only."""

    def __init__(
        self, folder: Path, config: CheckpointConfig, policy: Policy, others: Trained, *, origin: str, stage: str
    ) -> None:
        """`others` are modules and optimizers beside the policy's, by name; `origin` is the model that the run began
        with."""
        self._run, self._config, self._policy, self._others = folder, config, policy, others
        self._about = {"seethink": __version__, "stage": stage, "from": origin}
        self._retention = Retention(config.keep, config.keep_best, config.best_mode)
        self.saved = 0
        """The step of the newest checkpoint; 0 where there is none."""
        self._score: float | None = None
        self._end: tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None = None
        """The last finished step and what its checkpoint holds beside weights and optimizers; None before the first."""
        self._failed_saves = 0
        self._pending: dict[str, float] = {}
        self._writing: BackgroundSave | None = None
        shared = config.asynchronous and policy.shards is not None
        self._group = dist.new_group(backend="gloo") if shared else None
        """For the thread that writes: the default group is the main thread's."""

    def require_room(self) -> None:
        """Raises CheckpointError where the disk has no room for a single checkpoint: training would be for nothing."""
        needed = export_bytes(self._policy.loaded) + _state_bytes(self._policy.optimizer)
        needed += sum(_state_bytes(thing) for thing in self._others.values())
        try:
            require_room(self._run, needed)
        except NoRoomError as error:
            raise CheckpointError(
                f"no checkpoint could be saved: {error.strerror}; free some room, or choose an out on another disk"
            ) from None

    def restore(self, checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> None:
        """Weights, optimizers, counters and random states of a checkpoint. Raises CheckpointError."""
        try:
            self._restore(checkpoint, trust_remote_code=trust_remote_code)
        except UserError:
            raise
        except (LookupError, ValueError, TypeError, RuntimeError, OSError, SafetensorError) as error:
            said = " ".join(str(error).split())
            raise CheckpointError(
                f"cannot resume from {checkpoint.path}: its state does not fit this run ({type(error).__name__}: "
                f"{said}); put it back from a copy, or remove it to go on from the one before"
            ) from None

    def _restore(self, checkpoint: Checkpoint, *, trust_remote_code: bool) -> None:
        tensors, state, policy = load_tensors(checkpoint), checkpoint.state, self._policy
        policy.take(lambda: stored_weights(policy.model, checkpoint, tensors, trust_remote_code=trust_remote_code))
        shares = load_shares(checkpoint.path / SHARES, "policy", policy.optimizer)
        restore_optimizer("policy", policy.optimizer, tensors | shares)
        for name, thing in self._others.items():
            if isinstance(thing, torch.optim.Optimizer):
                restore_optimizer(name, thing, tensors)
            else:
                prefix = f"{name}/"
                thing.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        policy.steps_done, policy.saw_images = state["gradient_steps"], state["saw_images"]
        restore_rng(tensors, state["rng"])
        self.saved, self._score = checkpoint.step, state.get("score")
        # The run may have been killed after a save and before the old checkpoints went.
        drop_surplus(self._run / FOLDER, self._retention, checkpoint.step)

    def is_due(self, step: int) -> bool:
        """Whether the recipe wants a checkpoint of this step; the last step has one besides."""
        return step % self._config.every == 0

    def path(self, step: int) -> Path:
        return self._run / FOLDER / f"step_{step:06d}"

    def metrics(self) -> dict[str, float]:
        """What training has waited for saving since the last call, for the metrics of the step that follows.

        Raises what has failed in the background, unless the disk was at fault.
        """
        if self._writing is not None and self._writing.done:
            self.wait()
        pending, self._pending = self._pending, {}
        return pending

    def end_step(self, step: int, metrics: Mapping[str, float], state: dict[str, Any]) -> None:
        """The step is finished: from now on it is what a checkpoint holds."""
        score = metrics.get(self._config.best_metric or "", math.nan)
        self._score = score if math.isfinite(score) else self._score
        tensors, rng = rng_state()
        policy = self._policy
        own = {
            "gradient_steps": policy.steps_done,
            "saw_images": policy.saw_images,
            "score": self._score,
            "versions": versions(),
            "rng": rng,
        }
        self._end = (step, tensors, state | own)
        policy.weights_moved = False

    @property
    def can_save(self) -> bool:
        """Whether weights and optimizers are still those of the last finished step, which is not saved yet."""
        return self._end is not None and not self._policy.weights_moved and self._end[0] != self.saved

    @property
    def needs_all_ranks(self) -> bool:
        """Whether every rank must call `save`: each has a share of the weights."""
        return self._policy.shards is not None

    def save(self, sync: Callable[[], None], *, last: bool = False, wait: bool = True) -> None:
        """Save the last finished step, after `sync` has put its records on the disk; rank 0 does, for all.

        Without `wait` it may still be in writing afterwards. A run's first checkpoint never is: without one, records of
        later steps could not be resumed from. Raises CheckpointError where the run's last checkpoint cannot be saved.
        """
        assert self._end is not None
        step = self._end[0]
        if not is_main() and not self.needs_all_ranks:
            self.saved = step
            return
        started = time.perf_counter()
        self.wait()
        beside = self._config.asynchronous and not wait and self.saved > 0
        try:
            sync()
            write = self._prepared(*self._end, beside=beside)
            if beside:
                self._writing = BackgroundSave(step, write)
            else:
                write()
                self.saved = step
        except Exception as error:
            self._judge(step, error, last=last)
        self._pending["time/checkpoint_s"] = time.perf_counter() - started
        if self._failed_saves:
            self._pending["checkpoint/failed"] = float(self._failed_saves)

    def wait(self) -> None:
        """Until nothing is being written. Raises what has failed in the background, unless the disk was at fault."""
        if self._writing is None:
            return
        step = self._writing.step
        try:
            self._writing.wait()
            self.saved = step
        except Exception as error:
            self._writing = None
            self._judge(step, error, last=False)
        self._writing = None

    def finish_writing(self) -> None:
        """For a run that ends with an error: wait, and say a second error, so that the first remains the cause."""
        step = self._writing.step if self._writing is not None else 0
        try:
            self.wait()
        except Exception as error:
            _shout(f"NOR WAS THE CHECKPOINT OF STEP {step} SAVED: {_reason(error)}")

    def _judge(self, step: int, error: Exception, *, last: bool) -> None:
        """Raises the error of a save, unless the disk was at fault."""
        if not is_write_failure(error) and not isinstance(error, OtherRankError):
            raise error
        self._failed_saves += 1
        self._pending["checkpoint/failed"] = float(self._failed_saves)
        self._could_not_save(step, error, last=last)

    def _prepared(
        self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any], *, beside: bool
    ) -> Callable[[], object]:
        """What writes the checkpoint; where that is `beside` training, from copies. Every rank that writes calls it."""
        policy, shares = self._policy, optimizer_tensors("policy", self._policy.optimizer)
        for name, thing in self._others.items():
            if isinstance(thing, torch.optim.Optimizer):
                tensors = tensors | optimizer_tensors(name, thing)
            else:
                tensors = tensors | {f"{name}/{k}": v for k, v in thing.state_dict().items()}
        if self._config.keep_best and self._score is None:
            console.print(f"checkpoint.best_metric: no step has had {self._config.best_metric!r} yet", style="yellow")
        folder = from_main(lambda: self._run / FOLDER) if self.needs_all_ranks else self._run / FOLDER
        weights = policy.state_dict() if self.needs_all_ranks or beside else None
        chat: ChatFiles | None = None
        if beside:
            learning = [p.detach() for p in policy.model.parameters() if p.requires_grad]
            weights = copied(weights or {}, [*learning, *policy.model.buffers()])
            tensors, shares, state = copied(tensors), copied(shares), deepcopy(state)
            chat = chat_files(policy.loaded.chat)
        if not self.needs_all_ranks:
            tensors = tensors | shares
        return partial(
            save_checkpoint, folder, step, policy.loaded, tensors, state, self._about | {"step": step},
            keep=self._retention, weights=weights, shares=shares if self.needs_all_ranks else None, chat=chat,
            group=self._group if beside else None,
        )  # fmt: skip

    def export_best(self, folder: Path, step: int) -> bool:
        """Export the weights as they are; False where the disk did not take them. Every rank must call it."""
        self.wait()
        weights = self._policy.state_dict() if self.needs_all_ranks else None
        return from_main(lambda: self._export(folder, step, weights))

    def _export(self, folder: Path, step: int, weights: Weights | None) -> bool:
        try:
            export_whole(self._policy.loaded, folder, {"from": self._about["from"], "step": step}, weights)
        except Exception as error:
            if not is_write_failure(error):
                raise
            self._failed_saves += 1
            _shout(f"THE BEST WEIGHTS WERE NOT SAVED: {_reason(error)}; those of before are still in {folder}")
            return False
        return True

    def _could_not_save(self, step: int, error: Exception, *, last: bool) -> None:
        kept = f"that of step {self.saved} is still the newest" if self.saved else "there is none yet"
        said = f"the checkpoint of step {step} was not saved: {_reason(error)}; {kept}"
        if last:
            remedy = "resume: what is missing is trained again"
            if not self.saved:
                remedy = f"begin again in another out, or after deleting {self._run}: there is nothing to resume from"
            raise CheckpointError(f"{said}. Free some room and {remedy}") from None
        _shout(f"CHECKPOINT FAILED: {said}. Training goes on; the next is tried as planned")


def _state_bytes(thing: torch.nn.Module | torch.optim.Optimizer) -> int:
    """What a checkpoint holds of it: the tensors of a module, the moments of what an optimizer updates."""
    if isinstance(thing, torch.nn.Module):
        return sum(tensor.nbytes for tensor in thing.state_dict().values())
    return optimizer_bytes(thing)


def _reason(error: Exception) -> str:
    return f"the disk is full ({error})" if disk_is_full(error) else f"{type(error).__name__}: {error}"


def _shout(line: str) -> None:
    say(line, "bold red")
