"""Checkpoints: a Hugging Face folder plus training state in safetensors and JSON.

Written to a temporary name, then renamed, old ones deleted after: a folder with a final name is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from seethink.errors import UserError
from seethink.models.load import LoadedModel, export_model
from seethink.models.lora import adapter_state, is_adapter

PREFIX = "step_"


class CheckpointError(UserError):
    """A checkpoint that cannot be resumed from; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    step: int
    state: dict[str, Any]
    """What the loop saved: position in the data, early stopping and the like."""


def save_checkpoint(
    folder: Path,
    step: int,
    loaded: LoadedModel,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    about: dict[str, Any],
    *,
    keep: int,
) -> Path:
    """Write `folder/step_NNNNNN` in one move and drop the oldest beyond `keep`."""
    final = folder / f"{PREFIX}{step:06d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    export_model(loaded.model, loaded.chat, temporary, about)
    train = temporary / "train_state"
    train.mkdir()
    tensors = tensors | {f"lora/{name}": weight for name, weight in adapter_state(loaded.model).items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, train / "tensors.safetensors")
    (train / "state.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
    for file in temporary.rglob("*"):
        _sync(file)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    _sync(folder)
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob(f"{PREFIX}*") if (p / "train_state" / "state.json").is_file())


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    complete = _complete(folder)
    if not complete:
        return None
    state = json.loads((complete[-1] / "train_state" / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(complete[-1], state["step"], state)


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
            index, _, key = rest.partition("/")
            entries.setdefault(int(index), {})[key] = value
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
