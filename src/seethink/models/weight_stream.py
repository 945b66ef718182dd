"""The weights of a model under training, one whole tensor after another, named as in its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seethink.models.lora import adapter_names, adapter_product, is_adapter
from seethink.models.shares import whole


def checkpoint_weights(model: Any, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter in `dtype`, for another engine that loads the checkpoint's format.

    Adapters are merged into the weights that they adapt, one at a time: another engine then computes what training
    computes, vision encoder and connector included. Tied weights come once. The tensors of a sharded model are gathered
    one by one, so that every rank must iterate alike. Raises NotImplementedError for a family whose checkpoint is not
    made of the model's own tensors.
    """
    names = checkpoint_names(model)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        plain = name.replace(".base_layer.", ".")
        tensor = whole(parameter.detach()) + _adapted(model, name) if plain != name else whole(parameter.detach())
        yield names[plain], tensor.to(dtype)


def separate_weights(
    model: Any, dtype: torch.dtype, adapter_suffixes: tuple[str, str], *, trained_alone: bool
) -> Iterator[tuple[str, Tensor]]:
    """As `checkpoint_weights`, but adapters come by themselves, in float32 and last, for one that merges them.

    With `trained_alone` they come with the trained parameters and nothing else. A weight that is adapted comes as it is
    stored; its adapter's A and B have its name and one of `adapter_suffixes`, and B is scaled.
    """
    names, adapted = checkpoint_names(model), []
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        owner, _, kind = name.partition(".base_layer.")
        if kind == "weight":
            adapted.append((names[f"{owner}.weight"], owner))
            if not trained_alone:
                yield names[f"{owner}.weight"], whole(parameter.detach())
        elif parameter.requires_grad or not trained_alone:
            yield names[name.replace(".base_layer.", ".")], whole(parameter.detach()).to(dtype)
    for weight, owner in adapted:
        b, a = (whole(model.get_parameter(adapter).detach()).float() for adapter in adapter_names(owner))
        yield weight + adapter_suffixes[0], a
        yield weight + adapter_suffixes[1], b * model.get_submodule(owner).scaling["default"]


def checkpoint_names(model: Any) -> dict[str, str]:
    """Parameter -> its name in the checkpoint, from transformers' own table of renamed weights."""
    from transformers.core_model_loading import revert_weight_conversion

    plain = [name.replace(".base_layer.", ".") for name, _ in model.named_parameters() if not is_adapter(name)]
    # Tensors of one number each, of which each is its parameter's place: shapes do not matter to names.
    found = {}
    for number, name in enumerate(plain):
        renamed = revert_weight_conversion(model, {name: torch.tensor([number])})
        if len(renamed) != 1:
            raise NotImplementedError(f"the checkpoint divides {name} into {', '.join(renamed)}")
        found[name] = next(iter(renamed))
    if len(set(found.values())) != len(found):
        raise NotImplementedError("the checkpoint joins several tensors of the model into one")
    return found


def _adapted(model: Any, name: str) -> Tensor | float:
    """What the adapter of a layer adds to its weight; nothing to its bias."""
    owner, _, kind = name.partition(".base_layer.")
    if kind != "weight":
        return 0.0
    b, a = (whole(model.get_parameter(adapter).detach()) for adapter in adapter_names(owner))
    return adapter_product(model.get_submodule(owner), b, a)
