"""Where a run begins: at its start, at a checkpoint, or after its end with keys or data that give it more to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seethink.config import CheckpointConfig, Recipe
from seethink.core.errors import UserError
from seethink.core.files import write_text
from seethink.runs.checkpoint import Checkpoint, any_checkpoint
from seethink.runs.folder import is_allowed, prepare_folder, refuse_changes
from seethink.runs.reading import final_model
from seethink.world.make import is_world

DATA = "data.sha256"
MORE = {"sft": "sft.epochs", "grpo": "algorithm.steps", "ppo": "algorithm.steps"}
"""The key that gives a stage more steps."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a run begins, and what of it was finished before."""

    recipe: Recipe
    checkpoint: Checkpoint | None = None
    same_data: bool = False
    """Whether the data must be those that the run was started with."""
    finished: Path | None = None
    """The model that the run ended with, where it was complete."""
    changed: tuple[str, ...] = ()
    """Keys that are not as they were, with the user's leave."""
    data_before: str = ""
    """The fingerprint of the data that the run was started with."""
    is_end: bool = False
    """Whether a finished run is to be left as it is, which can be told without reading its data."""

    def finished_before(self, last_step: int) -> Path | None:
        """The model of a finished run that has nothing more to train; None where there are steps to do.

        For after the data are read, of which `last_step` follows. Raises UserError where something was changed and
        there is nothing more to train all the same.
        """
        if self.finished is None or self.checkpoint is None:
            return None
        changed, stored = self.changed, Path(self.recipe.out) / DATA
        if self.data_before and _stored(stored) != self.data_before:
            changed = (*changed, "data")
        if not changed:
            return self.finished
        step, stopping = self.checkpoint.step, self.checkpoint.state.get("stopping") or {}
        if self.recipe.stage == "sft" and stopping.get("waited", 0) >= self.recipe.sft.patience:
            why = (
                f"it stopped early, after sft.patience={self.recipe.sft.patience} validations without a lower loss; "
                "raise sft.patience too (--allow sft.patience)"
            )
        elif step >= last_step:
            key = MORE[self.recipe.stage]
            why = f"it has done {step} steps, and is to do {last_step}; raise {key} too (--allow {key})"
        else:
            return None
        if "data" in changed:
            write_text(stored, self.data_before + "\n")
        raise UserError(
            f"{self.recipe.out} is finished, and with other {', '.join(changed)} nothing is left to train: {why}, "
            "or choose another out"
        )


def begin(recipe: Recipe, *, resume: bool, allow: Sequence[str]) -> Beginning:
    """Find where a run begins, and sign the folder of a new one. Raises UserError."""
    folder = Path(recipe.out)
    finished = final_model(folder) if resume else None
    changed = tuple(refuse_changes(recipe, allow)) if finished is not None else ()
    # The world's items follow from the recipe alone; files may have changed, which only reading them tells.
    fixed = all(is_world(source) for source in (*recipe.data.sources, recipe.data.val) if source is not None)
    if finished is not None and not changed and (fixed or not any_checkpoint(folder / "checkpoints")):
        return Beginning(recipe, finished=finished, is_end=True)
    checkpoint = prepare_folder(recipe, resume=resume, allow=allow)
    return Beginning(
        recipe,
        checkpoint,
        same_data=checkpoint is not None and not is_allowed("data", allow),
        finished=finished,
        changed=changed,
        data_before=_stored(folder / DATA),
    )


def too_few_to_select(checkpoint: CheckpointConfig, last_step: int | None) -> str | None:
    """What to set so that `seethink select` has two checkpoints to choose from; None where it has.

    Without `last_step`, runs are taken to be long enough.
    """
    if max(checkpoint.keep, checkpoint.keep_best) < 2:
        return "set checkpoint.keep=2 or more"
    if last_step is not None and last_step <= checkpoint.every:
        return f"lower checkpoint.every={checkpoint.every} below the run's {last_step} steps"
    return None


def _stored(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
