"""The weights of a model, named and laid out as in its published checkpoint: as a stream while it trains, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
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
    names, turned = checkpoint_names(model), turned_dims(model)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        plain = name.replace(".base_layer.", ".")
        tensor = whole(parameter.detach()) + _adapted(model, name) if plain != name else whole(parameter.detach())
        yield names[plain], _turned(tensor.to(dtype), turned.get(name))


def separate_weights(
    model: Any, dtype: torch.dtype, adapter_suffixes: tuple[str, str], *, trained_alone: bool
) -> Iterator[tuple[str, Tensor]]:
    """As `checkpoint_weights`, but adapters come by themselves, in float32 and last, for one that merges them.

    With `trained_alone` they come with the trained parameters and nothing else. A weight that is adapted comes as it is
    stored; its adapter's A and B have its name and one of `adapter_suffixes`, and B is scaled.
    """
    names, turned, adapted = checkpoint_names(model), turned_dims(model), []
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        owner, _, kind = name.partition(".base_layer.")
        if kind == "weight":
            adapted.append((names[f"{owner}.weight"], owner))
            if not trained_alone:
                yield names[f"{owner}.weight"], whole(parameter.detach())
        elif parameter.requires_grad or not trained_alone:
            tensor = whole(parameter.detach()).to(dtype)
            yield names[name.replace(".base_layer.", ".")], _turned(tensor, turned.get(name))
    for weight, owner in adapted:
        b, a = (whole(model.get_parameter(adapter).detach()).float() for adapter in adapter_names(owner))
        yield weight + adapter_suffixes[0], a
        yield weight + adapter_suffixes[1], b * model.get_submodule(owner).scaling["default"]


def checkpoint_names(model: Any) -> dict[str, str]:
    """Parameter -> its name in the checkpoint, from transformers' own table of renamed weights."""
    from transformers.core_model_loading import revert_weight_conversion

    found = {}
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        plain = name.replace(".base_layer.", ".")
        renamed = revert_weight_conversion(model, {plain: torch.empty(parameter.shape, device="meta")})
        if len(renamed) != 1:
            raise NotImplementedError(f"the checkpoint divides {plain} into {', '.join(renamed)}")
        found[plain] = next(iter(renamed))
    if len(set(found.values())) != len(found):
        raise NotImplementedError("the checkpoint joins several tensors of the model into one")
    return found


def turned_dims(model: Any) -> dict[str, tuple[int, int]]:
    """Parameter -> two dimensions that its published checkpoint has the other way round.

    transformers (5.19) turns such a tensor when it reads one, as the shape tells, and leaves it when it writes: vLLM,
    which reads the published form alone, would not load it. One whose dimensions are equal stays as it is.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import Transpose

    patterns = {
        pattern: (turn.dim0, turn.dim1)
        for conversion in get_model_conversion_mapping(model, add_legacy=False)
        for turn in getattr(conversion, "operations", ())[-1:]
        if isinstance(turn, Transpose) and turn.check_dims
        for pattern in conversion.target_patterns
    }
    return {
        name: dims
        for pattern, dims in patterns.items()
        for name, parameter in model.named_parameters()
        if re.search(pattern, name) and parameter.shape[dims[0]] != parameter.shape[dims[1]]
    }


def write_weights(model: Any, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a model's configuration and weights as `save_pretrained` does, in the published layout.

    `weights` is its whole state dict, where the model itself does not have all of it.
    """
    turned = turned_dims(model)
    if not turned:
        model.save_pretrained(folder, state_dict=weights)
        return
    names, given = checkpoint_names(model), model.state_dict() if weights is None else weights
    state = {names.get(name, name): _turned(tensor, turned.get(name)) for name, tensor in given.items()}
    model.save_pretrained(folder, state_dict=state, save_original_format=False)


def _turned(tensor: Tensor, dims: tuple[int, int] | None) -> Tensor:
    return tensor if dims is None else tensor.transpose(*dims).contiguous()


def _adapted(model: Any, name: str) -> Tensor | float:
    """What the adapter of a layer adds to its weight; nothing to its bias."""
    owner, _, kind = name.partition(".base_layer.")
    if kind != "weight":
        return 0.0
    b, a = (whole(model.get_parameter(adapter).detach()) for adapter in adapter_names(owner))
    return adapter_product(model.get_submodule(owner), b, a)
