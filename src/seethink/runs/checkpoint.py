"""Checkpoints: a Hugging Face folder plus training state in safetensors and JSON.

Written to a temporary name with a hash of every file, then renamed, old ones deleted after: a folder with a final
name is complete. Reading checks the hashes and goes back to the checkpoint before where one does not match.

Saving is done where the loop stands: on the nano model it is under 1% of the time (docs/resume.md), and a copy that
is written while training goes on would double the memory that the weights and the optimizer take.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.files import sync
from seethink.models.load import LoadedModel, export_model
from seethink.models.lora import adapter_state, is_adapter
from seethink.runs import manifest

PREFIX = "step_"
DAMAGED = "damaged_"
EXTRAS = 32 << 20
"""Room for processor and tokenizer files, beside weights and state."""


class CheckpointError(UserError):
    """A checkpoint that cannot be resumed from; the message says what to do."""


class NoRoomError(OSError):
    """The disk has too little room for the next checkpoint; nothing was written."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    step: int
    state: dict[str, Any]
    """What the loop saved: position in the data, early stopping and the like."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Which checkpoints stay: the newest, and the best by the score saved with each."""

    newest: int
    best: int = 0
    mode: Literal["max", "min"] = "max"


def save_checkpoint(
    folder: Path,
    step: int,
    loaded: LoadedModel,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    about: dict[str, Any],
    *,
    keep: int | Retention,
) -> Path:
    """Write `folder/step_NNNNNN` in one move, then drop the old ones that are not to stay.

    A failure, a full disk among others, raises and leaves what was there before.
    """
    tensors = tensors | {f"lora/{name}": weight for name, weight in adapter_state(loaded.model).items()}

    def fill(temporary: Path) -> None:
        export_model(loaded.model, loaded.chat, temporary, about)
        train = temporary / "train_state"
        train.mkdir()
        save_file({k: v.contiguous() for k, v in tensors.items()}, train / "tensors.safetensors")
        (train / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")

    final = folder / f"{PREFIX}{step:06d}"
    replace_folder(final, fill, _bytes(loaded.model.state_dict()) + _bytes(tensors) + EXTRAS)
    drop_surplus(folder, keep if isinstance(keep, Retention) else Retention(keep))
    return final


def export_whole(loaded: LoadedModel, folder: Path, about: dict[str, Any]) -> None:
    """A Hugging Face folder, written in one move."""
    needed = _bytes(loaded.model.state_dict()) + EXTRAS
    replace_folder(folder, lambda temporary: export_model(loaded.model, loaded.chat, temporary, about), needed)


def replace_folder(final: Path, fill: Callable[[Path], None], needed: int) -> None:
    """Have `fill` write a folder of about `needed` bytes, add its manifest, and put it in the place of `final`."""
    final.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(final.parent)
    _require_room(final.parent, needed)
    temporary, old = _temporary(final), _old(final)
    try:
        fill(temporary)
        _sync(temporary)
        if final.exists():
            os.replace(final, old)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        clear_leftovers(final.parent)
        raise
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Undo what a killed process left half done: unfinished folders go, one that was moved aside comes back."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.old"):
        final = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
        if final.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.replace(path, final)


def _temporary(final: Path) -> Path:
    return final.with_name(f".{final.name}.tmp")


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _sync(folder: Path) -> None:
    manifest.write_manifest(folder)


def _remove(path: Path) -> None:
    """Take the final name away first: a folder that is half deleted must not look like a checkpoint."""
    going = path.with_name(f".{path.name}.tmp")
    os.replace(path, going)
    shutil.rmtree(going, ignore_errors=True)


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _require_room(folder: Path, needed: int) -> None:
    """Raises NoRoomError before a byte is written. The old checkpoint stays until the new one is complete."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoomError(
            28, f"{folder} needs {needed / 1e9:.2f} GB of room and has {free / 1e9:.2f} GB: No space left on device"
        )


def _complete(folder: Path) -> list[Path]:
    """Finished folders, oldest first; whether their files are as they were written is not asked here."""
    found = [p for p in folder.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)))


def drop_surplus(folder: Path, retention: Retention) -> None:
    """Remove the checkpoints that need not stay."""
    for old in _surplus(folder, retention):
        _remove(old)


def _surplus(folder: Path, retention: Retention) -> list[Path]:
    """The checkpoints that need not stay."""
    complete = _complete(folder)
    stay = set(complete[-retention.newest :])
    if retention.best:
        sign = -1 if retention.mode == "max" else 1
        scores = {path: score for path in complete if (score := _score(path)) is not None}
        # Of equal ones the older stays: it does not change any more.
        stay |= set(sorted(scores, key=lambda path: (sign * scores[path], path.name))[: retention.best])
    return [path for path in complete if path not in stay]


def _score(path: Path) -> float | None:
    try:
        value = _state(path).get("score")
    except (OSError, ValueError):
        return None
    return float(value) if isinstance(value, int | float) else None


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / "train_state" / "state.json").read_text(encoding="utf-8"))
    return state


def newest_checkpoint(folder: Path, *, say: Callable[[str], None] | None = None) -> Checkpoint | None:
    """The newest checkpoint whose files are all as they were written; None where there is none at all.

    Says loudly which file of a newer one is damaged. Raises CheckpointError where none is whole: a run never begins
    again unasked.
    """
    say = say or _say
    problems: list[str] = []
    for path in reversed(_complete(folder)):
        damage = manifest.find_damage(path)
        if damage is None:
            state = _state(path)
            if problems:
                say(f"going back to {path}: what was trained after step {state['step']} is done again")
            return Checkpoint(path, state["step"], state)
        problems.append(damage)
        say(f"DAMAGED CHECKPOINT: {damage}")
    if problems:
        raise CheckpointError(
            f"cannot resume: no checkpoint in {folder} is whole ({'; '.join(problems)}); put back the files from a "
            f"copy, or delete {folder.parent} to begin again"
        )
    return None


def set_damaged_aside(folder: Path, whole: Checkpoint) -> None:
    """Checkpoints newer than the one that is resumed from get another name, so that none of them counts as kept."""
    for path in _complete(folder):
        if int(path.name.removeprefix(PREFIX)) > whole.step:
            aside = path.with_name(DAMAGED + path.name)
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)
            _say(f"kept as {aside}; delete it if you do not need it")


def _say(line: str) -> None:
    say(line, "bold red")


def load_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.path / "train_state" / "tensors.safetensors")


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimizer's state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}/{i}/{key}": value for i, entry in state.items() for key, value in entry.items()}


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    current = optimizer.state_dict()
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        head, _, rest = name.partition("/")
        if head == prefix:
            number, _, key = rest.partition("/")
            entries.setdefault(int(number), {})[key] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entry in entries.items():
        # A parameter that had no gradient yet (vision without images) has no entry; an entry must have its parameter.
        if index >= len(parameters) or entry["exp_avg"].shape != parameters[index].shape:
            raise CheckpointError(f"the checkpoint's optimizer entry {index} fits no parameter that this recipe trains")
    optimizer.load_state_dict({"state": entries, "param_groups": current["param_groups"]})


def restore_weights(
    loaded: LoadedModel, checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], *, trust_remote_code: bool = False
) -> None:
    """Weights of a checkpoint into a model that is already built, whose parameters the optimizer holds.

    The folder has adapters merged; they come from `tensors` instead, and what lies beneath them stays as it started.
    """
    from transformers import AutoModelForImageTextToText

    saved = AutoModelForImageTextToText.from_pretrained(
        checkpoint.path, dtype=loaded.model.dtype, use_safetensors=True, trust_remote_code=trust_remote_code
    ).state_dict()
    state = loaded.model.state_dict()
    for name in state:
        if is_adapter(name):
            state[name] = tensors[f"lora/{name}"]
        elif ".base_layer." not in name:
            state[name] = saved[name]
    loaded.model.load_state_dict(state)
