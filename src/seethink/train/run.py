"""What every stage shares around its loop: the run folder, the policy, metrics, checkpoints and resuming."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from seethink import __version__
from seethink.config import Recipe
from seethink.errors import UserError
from seethink.models.load import LoadedModel
from seethink.progress import console
from seethink.train.checkpoint import (
    Checkpoint,
    load_tensors,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_weights,
    save_checkpoint,
)
from seethink.train.metrics import MetricsWriter, read_metrics
from seethink.train.policy import Policy

DONE = "done.json"


class RunFolderError(UserError):
    """A run folder that cannot be used; the message says what to do."""


def prepare_folder(recipe: Recipe, *, resume: bool) -> Checkpoint | None:
    """Make the run folder, or find where to resume. Raises RunFolderError."""
    folder = Path(recipe.out)
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"out={recipe.out!r} is a file; choose a folder")
    if (folder / "metrics.jsonl").exists() and not resume:
        raise RunFolderError(f"{folder} already holds a run: add --resume to go on with it, or choose another out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out={recipe.out!r} cannot be made: {error}; choose another folder") from None
    checkpoint = newest_checkpoint(folder / "checkpoints") if resume else None
    if checkpoint is not None:
        refuse_changes(recipe)
    resolved = json.dumps(recipe.model_dump(mode="json"), indent=2)
    (folder / "recipe.json").write_text(resolved + "\n", encoding="utf-8")
    return checkpoint


def refuse_changes(recipe: Recipe) -> None:
    """Raises RunFolderError where the run in the folder was started with another recipe; the folder may have moved."""
    saved = Path(recipe.out) / "recipe.json"
    if not saved.exists():
        return
    old = flatten(json.loads(saved.read_text(encoding="utf-8")))
    new = flatten(recipe.model_dump(mode="json"))
    # What the guard does about a blind model changes nothing that was trained.
    keys = (old.keys() | new.keys()) - {"out", "blindness.action"}
    differing = sorted(key for key in keys if old.get(key) != new.get(key))
    if differing:
        raise RunFolderError(f"cannot resume: the recipe differs in {', '.join(differing)}; choose another out")


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


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
        if checkpoint is not None:
            self._restore(checkpoint)
        board = recipe.log.tensorboard
        self._writer = MetricsWriter(self.folder, tensorboard=board, resume_step=self.step)
        self._changes: list[dict[str, Any]] = self.state.get("part_changes", [])
        self._step_started = time.perf_counter()
        if checkpoint is None:
            console.print(self.policy.proof.table())
        else:
            console.print(f"resuming {self.folder} after step {self.step}")

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

    def log(self, metrics: dict[str, float]) -> None:
        """End the step: prove the parts where due, write its record."""
        self.step += 1
        now = time.perf_counter()
        metrics["time/step_s"] = now - self._step_started
        self._step_started = now
        if self.step == 1 or self._is_due():
            # With a warmup or a group of equal rewards nothing need move yet; frozen parts must never.
            updated = metrics.get("optim/grad_norm", 0.0) > 0
            change = self.policy.proof.check(updated=updated, saw_images=self.policy.saw_images)
            metrics |= {f"parts/change_{part}": amount for part, amount in change.items()}
            self._changes.append({"step": self.step, **change})
            self._write_json("parts.json", {"parts": self.policy.proof.as_json(), "changes": self._changes})
        self._writer.write(self.step, metrics)

    def _is_due(self) -> bool:
        return self.step % self.recipe.checkpoint.every == 0 or self.step == self.total_steps

    def save_if_due(self, state: dict[str, Any], *, force: bool = False) -> None:
        """Checkpoint at every `checkpoint.every` steps and at the end."""
        if not (self._is_due() or force):
            return
        tensors = optimizer_tensors("policy", self.policy.optimizer)
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
        kept = {**state, "gradient_steps": self.policy.steps_done, "part_changes": self._changes}
        save_checkpoint(
            self.folder / "checkpoints",
            self.step,
            self.loaded,
            tensors,
            kept,
            about,
            keep=self.recipe.checkpoint.keep,
        )

    def finish(self, summary: dict[str, Any], final: Path) -> None:
        """Mark the run complete; `final` is the checkpoint that the next stage starts from."""
        self._write_json(DONE, {"final": str(final.relative_to(self.folder)), "step": self.step, **summary})

    def _write_json(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def final_model(folder: Path) -> Path | None:
    """The checkpoint that a finished run ended with, or None."""
    done = folder / DONE
    if not done.exists():
        return None
    return folder / str(json.loads(done.read_text(encoding="utf-8"))["final"])


def seconds_so_far(folder: Path) -> float:
    return float(sum(record.get("time/step_s") or 0.0 for record in read_metrics(folder)))
