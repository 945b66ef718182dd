"""Where the run writes: is there room for its checkpoints, and does the folder hold another run?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.doctor.check import Report, Status, gigabytes
from seethink.models.lora import is_adapter
from seethink.models.parts import split_parts
from seethink.models.quantized import count_numbers
from seethink.runs.folder import refuse_changes, refuse_foreign_folder
from seethink.runs.moments import moments_bytes
from seethink.runs.reading import DONE
from seethink.train.beginning import too_few_to_select

EXTRAS = 20 << 20
"""Tokenizer and processor files of one checkpoint."""
ALMOST = 0.8
"""Share of the free space from which on it is tight: rollouts, logs and other runs write too."""


def check_out(report: Report, recipe: Recipe) -> None:
    folder = Path(recipe.out)
    if folder.exists() and not folder.is_dir():
        report.add("out", "folder", Status.FAIL, f"out={recipe.out!r} is a file", "choose a folder")
        return
    parent = existing(folder)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        report.add("out", "folder", Status.FAIL, f"{parent} cannot be written to", "choose another out")
        return
    if not (folder / "metrics.jsonl").exists():
        try:
            refuse_foreign_folder(folder, resume=False)
        except UserError as error:
            report.add("out", "folder", Status.FAIL, str(error), "choose another out")
            return
        report.add("out", "folder", Status.PASS, f"{recipe.out}: {'there' if folder.exists() else 'can be made'}")
        return
    _check_old_run(report, recipe, folder)


def check_selection(report: Report, recipe: Recipe) -> None:
    """Whether `seethink select` will have checkpoints to choose from."""
    steps = None if recipe.stage == "sft" else recipe.algorithm.steps
    if advice := too_few_to_select(recipe.checkpoint, steps):
        report.add("out", "selection", Status.WARN, "`seethink select` will find one checkpoint and needs two", advice)


def _check_old_run(report: Report, recipe: Recipe, folder: Path) -> None:
    try:
        refuse_changes(recipe)
    except (UserError, OSError, ValueError) as error:
        advice = "choose another out, or the recipe that the run was started with"
        report.add("out", "folder", Status.FAIL, f"{folder} holds another run: {error}", advice)
        return
    state = "a finished run" if (folder / DONE).exists() else "a run"
    advice = "add --resume to go on with it, or choose another out: train refuses to start it anew"
    report.add("out", "folder", Status.WARN, f"{folder} already holds {state} of this recipe", advice)


def existing(folder: Path) -> Path:
    """The folder itself or the nearest one above that is there."""
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_disk(report: Report, recipe: Recipe, model: Any) -> None:
    """`model` is on the meta device, frozen and adapted as the run trains it."""
    if model is None:
        report.add("disk", "checkpoints", Status.SKIP, "their size is not known without the model")
        return
    one, best = checkpoint_bytes(model, recipe)
    copies = min(recipe.checkpoint.keep + recipe.checkpoint.keep_best, _saves(recipe)) + 1
    needed = copies * one + best
    try:
        free = shutil.disk_usage(existing(Path(recipe.out))).free
    except OSError as error:
        report.add("disk", "checkpoints", Status.WARN, f"free space is not known: {error}", "look yourself")
        return
    kept = f"{copies} checkpoints of {gigabytes(one)}" + (f" and best of {gigabytes(best)}" if best else "")
    said = f"{gigabytes(needed)} ({kept}, one of them while it is written); {gigabytes(free)} are free"
    about: dict[str, Any] = {"needed": needed, "free": free, "checkpoint": one}
    advice = "free some space, choose an out on another disk, or lower checkpoint.keep"
    if needed > free:
        report.add("disk", "checkpoints", Status.FAIL, f"too small: needs {said}", advice, **about)
    elif needed > ALMOST * free:
        report.add("disk", "checkpoints", Status.WARN, f"tight: needs {said}", advice, **about)
    else:
        report.add("disk", "checkpoints", Status.PASS, f"needs {said}", **about)


def checkpoint_bytes(model: Any, recipe: Recipe) -> tuple[int, int]:
    """(bytes of one checkpoint, bytes of `best`, which SFT exports besides): float32 weights with adapters merged,
    the adapters, and AdamW's two moments of what learns."""
    named = {name: p for part in split_parts(model).values() for name, p in part.items()}
    weights = 4 * count_numbers(model, {name: p for name, p in named.items() if not is_adapter(name)}) + EXTRAS
    adapters = 4 * sum(p.numel() for name, p in named.items() if is_adapter(name))
    moments = sum(moments_bytes(p.shape, recipe.optim.states) for p in named.values() if p.requires_grad)
    width = model.config.get_text_config().hidden_size
    critic = 12 * (width**2 + 2 * width) if recipe.stage == "ppo" else 0
    return weights + adapters + moments + critic, weights if recipe.stage == "sft" else 0


def _saves(recipe: Recipe) -> int:
    """Checkpoints that the run writes in all, where that is known beforehand."""
    if recipe.stage == "sft":
        return recipe.checkpoint.keep + recipe.checkpoint.keep_best
    return -(-recipe.algorithm.steps // recipe.checkpoint.every)
