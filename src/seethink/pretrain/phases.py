"""The files of base training: a finished phase, from which an interrupted command goes on, and the finished model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors import torch as weights_file
from torch import Tensor

from seethink.core.errors import UserError
from seethink.core.files import refuse_full_folder, write_bytes, write_json
from seethink.pretrain.descent import Descent
from seethink.pretrain.settings import BaseConfig

ABOUT = "base.json"
Weights = dict[str, torch.nn.Parameter]
"""By name."""
CURVE_STEPS = 250
"""`base.json` has the mean loss of so many steps."""
_LAST = ("skill_steps", "skill_lr")
_LATE = ("practice_steps", "practice_lr", *_LAST)
LATER: dict[str, tuple[str, ...]] = {
    "vision": ("drill_steps", "text_steps", "text_lr", "steps", "lr", *_LATE),
    "drills": ("vision_steps", "vision_lr", "text_steps", "steps", "lr", *_LATE),
    "text": ("vision_steps", "vision_lr", "steps", "lr", *_LATE),
    "language": _LATE,
    "practice": _LAST,
    "skills": (),
}
"""Settings that a phase does not depend on: they may change after it."""
KEEP_STEPS = 80
"""A phase on its way is kept after every so many steps; a multiple of `batches.BUFFER`."""


@dataclass(slots=True)
class PhaseRecord:
    """The course of a finished phase."""

    losses: list[float]
    """Of each step."""
    seconds: float


def phase_file(out: Path, name: str) -> Path:
    """Where the weights after a phase are kept until all phases are done."""
    return out / f"unfinished.{name}.safetensors"


@dataclass(slots=True)
class Course:
    """A phase on its way: what an interrupted command goes on from."""

    out: Path | None
    """None keeps nothing."""
    name: str
    config: BaseConfig

    def resume(self, descent: Descent) -> None:
        """Go on after the last kept step, if there is one. Raises UserError where it was made with other settings."""
        if self.out is None or not (file := going_file(self.out, self.name)).exists():
            return
        done = _record(file, self.name, self.config)
        descent.resume(weights_file.load_file(file), done.losses, done.seconds)

    def keep(self, descent: Descent) -> None:
        """Keep the last step, once every KEEP_STEPS."""
        if self.out is not None and len(descent.losses) % KEEP_STEPS == 0:
            done = PhaseRecord(descent.losses, descent.seconds)
            _save(going_file(self.out, self.name), descent.state(), self.config, done)


def going_file(out: Path, name: str) -> Path:
    """Where a phase that has not ended is kept."""
    return out / f"unfinished.{name}.going.safetensors"


def claim_base_folder(out: Path) -> None:
    """Raises UserError where `out` holds something else than a base model, finished or not."""
    if not any(out.glob("unfinished.*.safetensors")) and not (out / ABOUT).is_file():
        refuse_full_folder(out)


def save_phase(weights: Weights, out: Path, name: str, config: BaseConfig, done: PhaseRecord) -> None:
    """Keep the weights that a phase trained with its record and the settings."""
    _save(phase_file(out, name), weights, config, done)
    going_file(out, name).unlink(missing_ok=True)


@torch.no_grad()
def load_phase(weights: Weights, out: Path, name: str, config: BaseConfig) -> PhaseRecord | None:
    """Fill in the weights of a phase that an interrupted command finished, and return its record; None without one.

    Raises UserError where the weights were made with other settings.
    """
    file = phase_file(out, name)
    if not file.exists():
        return None
    done = _record(file, name, config)
    kept = weights_file.load_file(file)
    for key, weight in weights.items():
        weight.copy_(kept[key])
    return done


def _save(file: Path, tensors: Mapping[str, Tensor], config: BaseConfig, done: PhaseRecord) -> None:
    about = {"config": json.dumps(asdict(config)), "done": json.dumps(asdict(done))}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, weights_file.save({name: t.contiguous() for name, t in tensors.items()}, about))


def _record(file: Path, name: str, config: BaseConfig) -> PhaseRecord:
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    kept = json.loads(about["config"])
    if any(kept[key] != value for key, value in asdict(config).items() if key not in LATER[name]):
        raise UserError(f"{file} was made with other settings; remove it, or choose another --out")
    return PhaseRecord(**json.loads(about["done"]))


@torch.no_grad()
def round_to_stored(weights: Weights) -> None:
    """Give the weights the values that the stored bfloat16 holds."""
    for weight in weights.values():
        weight.copy_(weight.to(torch.bfloat16))


def save_base(
    model: Any, processor: Any, out: Path, config: BaseConfig, seconds: float, losses: dict[str, list[float]]
) -> None:
    """Write a Hugging Face folder and `base.json`, which says how it was made; remove the files of the phases."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(out, state_dict=state)
    processor.save_pretrained(out)
    curves = {
        name: [round(float(np.mean(all_[i : i + CURVE_STEPS])), 4) for i in range(0, len(all_), CURVE_STEPS)]
        for name, all_ in losses.items()
    }
    about = {"config": asdict(config), "seconds": round(seconds), "torch": torch.__version__, "losses": curves}
    write_json(out / ABOUT, about)
    for name in losses:
        phase_file(out, name).unlink()
