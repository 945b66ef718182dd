"""Samples as prompts, made on demand: the pixel tensors of a whole data set do not fit in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import overload

from seethink.core.types import Prompt, Sample
from seethink.data.chat import Chat

KEPT_BYTES = 2 * 1024**3
"""Bytes of pixel tensors kept for the next use; beyond them, the least recently used are dropped."""


class PromptList(Sequence[Prompt]):
    """The prompts of `samples`. A processed image is kept while there is room."""

    def __init__(self, samples: Sequence[Sample], chat: Chat, *, kept_bytes: int = KEPT_BYTES) -> None:
        self.samples = list(samples)
        self.chat, self._room = chat, kept_bytes
        """The chat of another model may take its place, if it processes alike; then the old model can be freed."""
        self._kept: OrderedDict[int, Prompt] = OrderedDict()
        self._lengths: list[int] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, place: int) -> Prompt: ...
    @overload
    def __getitem__(self, place: slice) -> list[Prompt]: ...
    def __getitem__(self, place: int | slice) -> Prompt | list[Prompt]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        prompt = self.chat.prompt(self.samples[place])
        self._kept[place] = prompt
        self._room -= _size(prompt)
        while self._room < 0 and len(self._kept) > 1:
            self._room += _size(self._kept.popitem(last=False)[1])
        return prompt

    def __iter__(self) -> Iterator[Prompt]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> list[int]:
        """Tokens of each prompt, counted without its pixels."""
        if self._lengths is None:
            self._lengths = [self.chat.prompt_length(sample) for sample in self.samples]
        return self._lengths


def prompt_lengths(prompts: Sequence[Prompt]) -> list[int]:
    """Tokens of each prompt; those of a PromptList are counted without making the prompts."""
    return prompts.lengths() if isinstance(prompts, PromptList) else [len(p.input_ids) for p in prompts]


def _size(prompt: Prompt) -> int:
    return sum(tensor.nbytes for tensor in prompt.mm_kwargs.values())
