"""Where each family keeps its vision encoder, its connector and its language model. The only family table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from seethink.config import PARTS, Part
from seethink.errors import UserError


@dataclass(frozen=True, slots=True)
class Family:
    """Module paths by part, and the tokens that only the processor may write."""

    vision: tuple[str, ...]
    connector: tuple[str, ...]
    language: tuple[str, ...]
    image_tokens: tuple[str, ...]
    """Never sampled: a stray one makes image features and image tokens disagree."""

    def paths(self, part: Part) -> tuple[str, ...]:
        return {"vision": self.vision, "connector": self.connector, "language": self.language}[part]


FAMILIES: dict[str, Family] = {
    "internvl": Family(
        vision=("model.vision_tower",),
        connector=("model.multi_modal_projector",),
        language=("model.language_model", "lm_head"),
        image_tokens=("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
    ),
}


class PartsError(UserError):
    """A model whose parts cannot be told apart."""


def family_of(model: nn.Module) -> Family:
    model_type = model.config.model_type  # type: ignore[union-attr]
    if model_type not in FAMILIES:
        raise PartsError(f"no parts table for model type {model_type!r}; known: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[str(model_type)]


def split_parts(model: nn.Module) -> dict[Part, dict[str, nn.Parameter]]:
    """Every parameter in exactly one part, by name. Tied parameters count once.

    Raises PartsError where a path of the table matches nothing or a parameter is in no part.
    """
    family = family_of(model)
    parts: dict[Part, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    for name, parameter in model.named_parameters():
        owners = [p for p in PARTS if any(_under(name, path) for path in family.paths(p))]
        if len(owners) != 1:
            raise PartsError(f"parameter {name!r} belongs to {owners or 'no part'}; it must be in exactly one")
        parts[owners[0]][name] = parameter
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        raise PartsError(f"no parameters in {', '.join(empty)}: the module paths changed in this transformers version")
    return parts


def _under(name: str, path: str) -> bool:
    return name == path or name.startswith(path + ".")
