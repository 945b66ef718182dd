"""The settings of base training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BaseConfig:
    """How the stored base model was made; `seethink world base` runs exactly this."""

    vision_steps: int = 3500
    vision_lr: float = 2e-3
    drill_steps: int = 0
    text_steps: int = 0
    text_lr: float = 2e-3
    steps: int = 4000
    lr: float = 1.5e-3
    practice_steps: int = 2000
    practice_lr: float = 1e-3
    skill_steps: int = 0
    skill_lr: float = 1e-3
    batch_size: int = 64
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0
