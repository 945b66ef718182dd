"""`[parts]` and `[lora]`: which parts of the model learn, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from seethink.config.optim import OptimConfig
from seethink.config.section import PARTS, Part, Section

Rate = Annotated[float, Field(gt=0)]


class PartModules(Section):
    """For a family that models/parts.py does not list; `seethink parts MODEL` prints the module names."""

    vision: tuple[str, ...] = Field(min_length=1, description="Modules of the vision encoder; `*` matches any name.")
    connector: tuple[str, ...] = Field(min_length=1, description="Modules between vision encoder and language model.")
    language: tuple[str, ...] = Field(min_length=1, description="Modules of the language model, its head included.")
    image_tokens: tuple[str, ...] = Field((), description="Tokens never sampled, besides the config's image ids.")


class PartsConfig(Section):
    modules: PartModules | None = Field(None, description="Where the parts are; only for unlisted families.")
    train: tuple[Part, ...] = Field(PARTS, min_length=1, description="Which parts learn; the others are frozen.")
    lr: dict[Part, Rate] = Field({}, description="By part, e.g. { vision = 1e-6 }; the default is optim.lr.")
    vision_cache_mb: int = Field(512, ge=0, description="Kept features of a frozen, large vision encoder; 0: none.")


class LoraConfig(Section):
    parts: tuple[Part, ...] = Field((), description="Parts that learn through low-rank adapters, of parts.train.")
    rank: int = Field(16, gt=0, description="Rank of the adapters.")
    alpha: float = Field(32.0, gt=0, description="Adapters are scaled by alpha / rank.")
    base: Literal["float32", "8bit", "4bit"] = Field(
        "float32",
        description="How the frozen weights beneath adapters are kept; `8bit` and `4bit` (QLoRA) need bitsandbytes.",
    )


def part_lr(part: Part, parts: PartsConfig, optim: OptimConfig) -> float:
    """The learning rate of a part: its own, or the common one."""
    return parts.lr.get(part, optim.lr)
