"""Prompts that were prefilled together and the rows that answer them: keys and values, and attention over them.

A prompt's keys and values are kept once for its whole group; a row keeps only those of its own tokens. All rows of a
batch started together, so they have drawn equally many tokens and no row needs a mask of its own.

Letters: P prompts, R rows, H query heads, K key heads, S = H / K, D head width, T places, M most rows of a prompt.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from seethink.core.types import Prefix, Prompt
from seethink.models.forward import cached_states, hidden_states, to_logits
from seethink.models.load import LoadedModel
from seethink.models.padding import left_pad, next_positions

HAS_KERNEL = ("cpu",)
"""Devices with a kernel that gives attention and log-sum-exp at once; elsewhere both are written out."""
FIRST_ROOM = 32
"""Places for own tokens at first; doubled when they are full."""


class DecodeBatch:
    """Rows in the order of their prompts. `select` drops rows, and prompts that no row follows."""

    def __init__(self, prompts: list[tuple[Tensor, Tensor]], mask: Tensor, logits: Tensor, positions: Tensor) -> None:
        self.rows = torch.arange(len(positions), device=positions.device)
        """[R] numbers of the rows that are left."""
        self.positions = positions
        """[R] the position of the next token."""
        self.first_logits = logits
        """[R, V] what the prompt's last token predicts."""
        self.length = 0
        """Own tokens that are in the cache, the same for all rows."""
        self._prompts = prompts
        padding = mask == 0
        visible = torch.zeros(mask.shape, dtype=prompts[0][0].dtype, device=mask.device)
        self._hidden = visible.masked_fill(padding, float("-inf"))[:, None, None] if padding.any() else None
        self._own: list[tuple[_Room, _Room]] = []
        self._prompt_of = torch.arange(len(mask), device=mask.device).repeat_interleave(len(positions) // len(mask))
        self._arrange()

    @classmethod
    def prefill(cls, loaded: LoadedModel, prompts: list[Prompt], group_size: int) -> DecodeBatch:
        """Left-padded prompts once through the model; every prompt gets `group_size` rows."""
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        prefix, logits = through_the_model(loaded, prompts, cache)
        repeated = (t.repeat_interleave(group_size, 0) for t in (logits, next_positions(prefix)))
        return cls(cached_states(cache), prefix.attention_mask, *repeated)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int) -> Tensor:
        """One token's attention: query [R, H, 1, D], key and value [R, K, 1, D] -> [R, 1, H, D].

        Attention over a row's own tokens is written out; the prompt comes in as one more key, whose score is the
        log-sum-exp of the prompt's scores and whose value is the attention over the prompt. That is exact.
        `window` is how many places a sliding layer sees, the token's own included; 0: all.
        """
        rows, heads, _, width = query.shape
        keys, values = self._extended(layer, key, value)
        shared = heads // keys.shape[1]
        if 0 < window <= self.length:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
        query = (query * scale).reshape(rows, -1, shared, width)
        scores = _whole(query @ keys.transpose(2, 3))
        seen = self._seen(layer, query, window)
        if seen is None:
            out = scores.softmax(-1).to(values.dtype) @ values
        else:
            prompt, lse = seen
            weights = torch.cat([lse[..., None], scores], -1).softmax(-1).to(values.dtype)
            out = torch.addcmul(weights[..., 1:] @ values, prompt, weights[..., :1])
        return out.reshape(rows, 1, heads, width)

    def advance(self) -> None:
        """All layers have seen the token."""
        self.length += 1
        self.positions = self.positions + 1

    def _extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's own keys and values, each [R, K, T, D], the new ones last."""
        if layer == len(self._own):
            self._own.append((_Room.of(key, FIRST_ROOM), _Room.of(value, FIRST_ROOM)))
        elif self.length == len(self._own[layer][0].places):
            keys, values = (_Room.of(room.states, 2 * self.length) for room in self._own[layer])
            self._own[layer] = keys, values
        keys, values = self._own[layer]
        keys.places[self.length].copy_(key)
        values.places[self.length].copy_(value)
        end = self.length + 1
        return keys.states[:, :, :end], values.states[:, :, :end]

    def _seen(self, layer: int, query: Tensor, window: int) -> tuple[Tensor, Tensor] | None:
        """Attention of query [R, K, S, D] over the prompts and its log-sum-exp [R, K, S]; None where out of sight."""
        keys, values = self._prompts[layer]
        mask = self._hidden
        first = keys.shape[2] + self.length + 1 - window if window else 0
        if first >= keys.shape[2]:
            return None
        if first > 0:
            keys, values = keys[:, :, first:], values[:, :, first:]
            mask = None if mask is None else mask[..., first:]
        folded = self._by_prompt(query).transpose(1, 2).flatten(2, 3)
        out, lse = prompt_attention(folded, keys, values, mask)
        shape = (len(keys), keys.shape[1], -1, query.shape[2])
        out = out.reshape(*shape, query.shape[3]).transpose(1, 2)
        return self._by_row(out), self._by_row(lse.reshape(shape).transpose(1, 2))

    def _by_prompt(self, states: Tensor) -> Tensor:
        """[R, ...] -> [P, M, ...]; zeros where a prompt has fewer rows than another."""
        count = len(self._prompts[0][0])
        if self._place is not None:
            padded = states.new_zeros(count * self._most, *states.shape[1:])
            padded[self._place] = states
            states = padded
        return states.view(count, self._most, *states.shape[1:])

    def _by_row(self, states: Tensor) -> Tensor:
        """[P, M, ...] -> [R, ...]."""
        flat = states.flatten(0, 1)
        return flat if self._place is None else flat[self._place]

    def select(self, keep: Tensor) -> None:
        """Keep the rows `keep` alone: numbers of rows, in order."""
        self.rows, self.positions = self.rows[keep], self.positions[keep]
        self._own = [(keys.select(keep, self.length), values.select(keep, self.length)) for keys, values in self._own]
        prompts, self._prompt_of = self._prompt_of[keep].unique(return_inverse=True)
        if len(prompts) < len(self._prompts[0][0]):
            self._prompts = [(k[prompts], v[prompts]) for k, v in self._prompts]
            self._hidden = None if self._hidden is None else self._hidden[prompts]
        self._arrange()

    def _arrange(self) -> None:
        """Note where each row stands in a table of prompts times rows; nowhere (None) where the table is full."""
        counts = self._prompt_of.bincount()
        self._most = int(counts.max())
        starts = counts.cumsum(0) - counts
        rank = torch.arange(len(self._prompt_of), device=counts.device) - starts[self._prompt_of]
        full = len(self._prompt_of) == len(counts) * self._most
        self._place = None if full else self._prompt_of * self._most + rank


def through_the_model(loaded: LoadedModel, prompts: list[Prompt], cache: Cache) -> tuple[Prefix, Tensor]:
    """The left-padded prompts, and the logits [P, V] after the last token of each; the cache is filled."""
    prefix = left_pad(prompts, loaded.chat.pad_id).to(loaded.device)
    hidden = hidden_states(
        loaded.model,
        prefix.input_ids,
        prefix.position_ids,
        prefix.mm_kwargs,
        attention_mask=prefix.attention_mask,
        cache=cache,
    )
    return prefix, to_logits(loaded.model, hidden[:, -1])


def prompt_attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention of scaled queries [P, K, Q, D] over [P, K, T, D], all of it or where `mask` [P, 1, 1, T] is 0.

    -> [P, K, Q, D] and the log-sum-exp of the scores [P, K, Q] in float32.
    """
    if query.device.type in HAS_KERNEL:
        flash = torch._scaled_dot_product_flash_attention_for_cpu
        expanded = None if mask is None else mask.expand(-1, -1, query.shape[2], -1)
        out, lse = flash(query, keys, values, 0.0, False, attn_mask=expanded, scale=1.0)
        return out, lse
    scores = _whole(query @ keys.transpose(2, 3))
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(values.dtype) @ values, lse


def _whole(scores: Tensor) -> Tensor:
    """The scores in float32 at least."""
    return scores.float() if scores.dtype.itemsize < 4 else scores


class _Room(NamedTuple):
    """A layer's keys or values [R, K, places, D], and a view of each place [R, K, 1, D]."""

    states: Tensor
    places: tuple[Tensor, ...]

    @classmethod
    def of(cls, used: Tensor, places: int) -> _Room:
        """`used` [R, K, T, D] at the start."""
        rows, heads, length, width = used.shape
        states = used.new_empty(rows, heads, places, width)
        states[:, :, :length] = used
        return cls(states, states.split(1, 2))

    def select(self, keep: Tensor, used: int) -> _Room:
        """The rows `keep`, of which the first `used` places are filled."""
        return _Room.of(self.states[keep, :, :used], len(self.places))
