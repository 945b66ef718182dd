"""The pieces of a model that sharding gathers as one (dist/sharding.py)."""

from __future__ import annotations

from typing import Any

from torch import nn

from seethink.models.parts import family_of

LARGE_ENCODER = 4
"""Times a decoder layer. InternViT-300M has 1.3 layers of its 8B model, InternViT-6B has 11 of its 38B model."""


def units(model: Any) -> list[nn.Module]:
    """What is gathered as one, the innermost first: each decoder layer, the connector, the vision encoder.

    A vision encoder that is large beside a decoder layer is gathered block by block.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    named = dict(model.named_modules())
    family = family_of(model)
    # A list of modules has no forward that could gather it.
    outer = [named[p] for paths in (family.connector, family.vision) for p in paths if p in named]
    outer = [unit for unit in outer if not isinstance(unit, nn.ModuleList)]
    inside = {id(m) for unit in outer for m in unit.modules()}
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    decoder, encoder = [m for m in layers if id(m) not in inside], [m for m in layers if id(m) in inside]
    if sum(map(_numel, encoder)) > LARGE_ENCODER * max(map(_numel, decoder), default=0):
        decoder += encoder
    return [unit for unit in [*decoder, *outer] if _numel(unit)]


def unit_sizes(model: Any) -> list[int]:
    """Weights of each unit, without those of the units inside it."""
    seen: set[int] = set()
    sizes = []
    for unit in units(model):
        own = [p for p in unit.parameters() if id(p) not in seen]
        seen.update(map(id, own))
        sizes.append(sum(p.numel() for p in own))
    return sizes


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
