"""A key-value cache for group decoding: filled once per prompt, forked into the group, grown without copying."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _GroupLayer(DynamicLayer):
    """Keys and values in buffers with room for the whole response, so that a step writes one column."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self._buffers is None:
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.keys.shape[-2]
        end = length + key_states.shape[-2]
        keys, values = self._buffers
        keys[:, :, length:end] = key_states
        values[:, :, length:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def fork(self, group_size: int) -> None:
        """Repeat every row for its group and make room for the response."""
        length = self.keys.shape[-2]
        self._buffers = self._with_room(self.keys, group_size), self._with_room(self.values, group_size)
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def _with_room(self, states: Tensor, group_size: int) -> Tensor:
        rows, heads, length, width = states.shape
        buffer = states.new_empty(rows * group_size, heads, length + self._room, width)
        buffer[:, :, :length] = states.repeat_interleave(group_size, 0)
        return buffer

    def select(self, running: Tensor) -> None:
        assert self._buffers is not None
        length = self.keys.shape[-2]
        self._buffers = self._buffers[0][running], self._buffers[1][running]
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class GroupCache(Cache):
    """Prefill it with P prompts, `fork` it into P * G rows, decode, and `select` the rows that run on."""

    def __init__(self, group_size: int, room: int) -> None:
        self._group_size = group_size
        super().__init__(layer_class_to_replicate=partial(_GroupLayer, room))

    def fork(self) -> None:
        for layer in self.layers:
            layer.fork(self._group_size)

    def select(self, running: Tensor) -> None:
        """Drop the rows where `running` [R] is False."""
        places = running.nonzero().squeeze(1)
        for layer in self.layers:
            layer.select(places)
