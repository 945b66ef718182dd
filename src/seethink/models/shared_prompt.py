"""Runs a group's prompt and images once, its responses against their keys and values, and one backward for all.

The gradient equals that of repeating the prompt for every response, up to the order of sums. In a causal model the
prompt does not see the responses, so they share nothing but its keys, its values and its last hidden state. These
tensors are detached as leaves; any number of response micro-batches add to their gradients, and one backward carries
the sum into the prompt, the connector and the vision encoder.

Letters: P prompts, B responses, T prompt tokens, R response tokens, H hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from seethink.core.types import Microbatch, Prefix
from seethink.models.forward import cached_states, hidden_states, stateful_layers
from seethink.models.prefix_attention import SharedKeys, copy_free, runs_of


class _Recorder(DynamicLayer):
    """Records the prompt's keys and values of a layer. It never grows, so a recomputed layer records the same again."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0


class _PrefixLayer(DynamicLayer):
    """Puts the prompt's keys and values before the response's own; unchanged by use, so a layer can be recomputed."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values = self._prompt = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = self._prompt
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


class _BesideLayer(DynamicLayer):
    """Hands on the response's own keys and values, with a reference to the prompt's for `prefix_attention`."""

    def __init__(self, shared: SharedKeys) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(shared.keys, shared.values)
        self.shared = shared

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        key_states.shared = self.shared  # type: ignore[attr-defined]
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0


def prompt_states(model: Any, prefix: Prefix) -> tuple[Tensor, ...]:
    """The prompts' forward: keys and values of every layer in turn, then the last hidden state [P, H]."""
    recorder = Cache(layer_class_to_replicate=_Recorder)
    hidden = hidden_states(
        model,
        prefix.input_ids,
        prefix.position_ids,
        prefix.mm_kwargs,
        attention_mask=prefix.attention_mask,
        cache=recorder,
    )
    return *(t for states in cached_states(recorder) for t in states), hidden[:, -1]


class SharedPrompt:
    """The prompts' forward, its graph kept until `backward`."""

    def __init__(self, model: Any, prefix: Prefix, states: tuple[Tensor, ...] | None = None) -> None:
        """`states` are those of `prompt_states`, where the caller has computed them."""
        self._model, self._prefix = model, prefix
        self._made = prompt_states(model, prefix) if states is None else states
        # Half-precision leaves would sum the group's gradients in half precision.
        self._leaves = [t.detach().float() if t.dtype != torch.float64 else t.detach() for t in self._made]
        for leaf, tensor in zip(self._leaves, self._made, strict=True):
            leaf.requires_grad_(tensor.requires_grad)
        keys, values, *_ = self._made
        self._copy_free = copy_free(model, keys.dtype) and keys.shape == values.shape

    def hidden(self, batch: Microbatch) -> Tensor:
        """[B, R, H]: the hidden states that predict each token of the responses in `batch`."""
        assert batch.prefix_rows is not None
        rows = batch.prefix_rows
        *states, last = (leaf.to(made.dtype) for leaf, made in zip(self._leaves, self._made, strict=True))
        first = last[rows][:, None]
        if batch.input_ids.shape[1] == 1:
            return first
        pairs = list(zip(states[::2], states[1::2], strict=True))
        following = self._beside(pairs, batch, rows) if self._copy_free else None
        if following is None:
            following = self._behind(pairs, batch, rows)
        return torch.cat([first, following], dim=1)

    def _beside(self, pairs: list[tuple[Tensor, Tensor]], batch: Microbatch, rows: Tensor) -> Tensor | None:
        """Attention reads the prompt's keys and values where they lie; None where the model's attention does not."""
        runs = runs_of(rows, self._prefix.attention_mask)
        layers: list[Any] = [_BesideLayer(SharedKeys(k, v, runs)) for k, v in pairs]
        following = self._forward(batch, None, Cache(layers=layers))
        self._copy_free = all(layer.shared.was_read for layer in layers)
        return following if self._copy_free else None

    def _behind(self, pairs: list[tuple[Tensor, Tensor]], batch: Microbatch, rows: Tensor) -> Tensor:
        """Attention reads a copy of the prompt's keys and values per response, put before the response's own."""
        layers: list[Any] = [_PrefixLayer(k.index_select(0, rows), v.index_select(0, rows)) for k, v in pairs]
        own = torch.ones_like(batch.input_ids[:, :-1])
        return self._forward(batch, torch.cat([self._prefix.attention_mask[rows], own], dim=1), Cache(layers=layers))

    def _forward(self, batch: Microbatch, attention_mask: Tensor | None, cache: Cache) -> Tensor:
        positions = batch.position_ids[:, :-1]
        if self._prefix.position_ids.ndim == 3:
            positions = positions.expand(3, -1, -1)
        ids = batch.input_ids[:, :-1]
        return hidden_states(self._model, ids, positions, {}, attention_mask=attention_mask, cache=cache)

    def backward(self) -> None:
        """Carry the gradients that the responses left into the prompt's graph; call it once, after the last of them."""
        gradients = [leaf.grad for leaf in self._leaves]
        reached = [(m, g.to(m.dtype)) for m, g in zip(self._made, gradients, strict=True) if g is not None]
        if reached:
            made, above = zip(*reached, strict=True)
            torch.autograd.backward(made, above)


def refusal(model: Any) -> str | None:
    """Why this model's prompts cannot be shared exactly; None where they can."""
    # Full attention needs only keys and values; a sliding window counts places, which padding on the left keeps.
    if others := stateful_layers(model):
        return f"its {others} layers carry more than keys and values from prompt to response"
    if model.training:
        return "it is in training mode: dropout would differ between the copies of a prompt"
    return None
