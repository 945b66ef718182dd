"""The weights of a model, named and laid out as in its published checkpoint: as a stream while it trains, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.models.lora import adapter_names, adapter_product, is_adapter
from seethink.models.shares import whole


def checkpoint_weights(model: Any, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all weights in `dtype`, for another engine that loads the checkpoint's format.

    Adapters are merged into the weights that they adapt, one at a time: another engine then computes what training
    computes, vision encoder and connector included. Tied weights come once. The tensors of a sharded model are gathered
    one by one, so that every rank must iterate alike. The model is one that `refuse_joined` lets pass.
    """
    published = Published(model)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        plain = name.replace(".base_layer.", ".")
        tensor = whole(parameter.detach()) + _adapted(model, name) if plain != name else whole(parameter.detach())
        yield from published.form(plain, tensor.to(dtype))


def separate_weights(
    model: Any, dtype: torch.dtype, adapter_suffixes: tuple[str, str], *, trained_alone: bool
) -> Iterator[tuple[str, Tensor]]:
    """As `checkpoint_weights`, but adapters come by themselves, in float32 and last, for one that merges them.

    With `trained_alone` they come with the trained parameters and nothing else. A weight that is adapted comes as it is
    stored; its adapter's A and B have its name and one of `adapter_suffixes`, and B is scaled.
    """
    published, adapted = Published(model), []
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        owner, _, kind = name.partition(".base_layer.")
        if kind == "weight":
            ((weight, stored),) = published.form(f"{owner}.weight", whole(parameter.detach()))
            adapted.append((weight, owner))
            if not trained_alone:
                yield weight, stored
        elif parameter.requires_grad or not trained_alone:
            yield from published.form(name.replace(".base_layer.", "."), whole(parameter.detach()).to(dtype))
    for weight, owner in adapted:
        b, a = (whole(model.get_parameter(adapter).detach()).float() for adapter in adapter_names(owner))
        yield weight + adapter_suffixes[0], a
        yield weight + adapter_suffixes[1], b * model.get_submodule(owner).scaling["default"]


class Published:
    """The form of a model's tensors in its published checkpoint, from transformers' own table of conversions."""

    def __init__(self, model: Any) -> None:
        self._model, self._turned = model, turned_dims(model)

    def form(self, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of what the checkpoint has for a parameter: one, or one of each fused expert."""
        turned = self._turned.get(name)
        for published, piece in _converted(self._model, {name: tensor}).items():
            yield published, piece if turned is None else piece.transpose(*turned).contiguous()


def refuse_joined(model: Any) -> None:
    """Raises UserError where one tensor of the checkpoint is made of several of the model's (Kimi's qkv)."""
    parameters = {n: p for n, p in model.named_parameters() if not is_adapter(n)}
    shapes = {n.replace(".base_layer.", "."): torch.empty(p.shape, device="meta") for n, p in parameters.items()}
    alone = {published for name, shape in shapes.items() for published in _converted(model, {name: shape})}
    if joined := sorted(_converted(model, shapes).keys() - alone):
        raise UserError(
            f"{type(model).__name__}: its published checkpoint has {joined[0]}, which is made of several of the "
            "model's tensors: they cannot be sent to vLLM one by one; set rollout.engine='in_process'"
        )


def _converted(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Tensor] = revert_weight_conversion(model, tensors)
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
    if not turned_dims(model):
        model.save_pretrained(folder, state_dict=weights)
        return
    given, published = model.state_dict() if weights is None else weights, Published(model)
    state = dict(pair for name, tensor in given.items() for pair in published.form(name, tensor))
    model.save_pretrained(folder, state_dict=state, save_original_format=False)


def _adapted(model: Any, name: str) -> Tensor | float:
    """What the adapter of a layer adds to its weight; nothing to its bias."""
    owner, _, kind = name.partition(".base_layer.")
    if kind != "weight":
        return 0.0
    b, a = (whole(model.get_parameter(adapter).detach()) for adapter in adapter_names(owner))
    return adapter_product(model.get_submodule(owner), b, a)
