"""Equal work on every rank, which ZeRO-3 needs: each forward and backward gathers the layers from all ranks.

A rank that has fewer micro-batches than another runs idle ones, whose weights are zero; images meet images, so that
all ranks are in the vision encoder at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch

from seethink.core.types import Microbatch
from seethink.dist.agreement import from_all
from seethink.rl.batching import Batcher, by_prefix
from seethink.rl.packing import PackedSequence

COLUMN = {
    "input_ids": 0, "position_ids": 0, "loss_mask": False, "generator_logprobs": 0.0,
    "advantages": 0.0, "weights": 0.0, "sequence_ids": -1,
}  # fmt: skip
"""A column of padding: the value of each tensor."""
Chunk = list[Microbatch]
"""Micro-batches that share one forward of their prompts; a packed one stands alone."""


def with_idle_batches(batches: Sequence[Microbatch], step: Sequence[PackedSequence], batcher: Batcher) -> Chunk:
    """This rank's micro-batches of a `step`, with idle ones until every rank runs the same forwards.

    Every rank must call it, with the whole step's sequences.
    """
    equal: Chunk = []
    for images in (True, False):
        own = [chunk for chunk in _chunks(batches) if _has_images(chunk[0]) == images]
        own.sort(key=len, reverse=True)
        lengths = from_all([len(chunk) for chunk in own])
        for place, length in enumerate(max(column) for column in zip_longest(*lengths, fillvalue=0)):
            chunk = own[place] if place < len(own) else _idle_chunk(step, batcher, images=images)
            equal += [_two_wide(batch) for batch in [*chunk, *[_idle(chunk[-1])] * (length - len(chunk))]]
    return equal


def _chunks(batches: Sequence[Microbatch]) -> list[Chunk]:
    chunks: list[Chunk] = []
    for prefix, members in by_prefix(batches):
        chunks += [members] if prefix is not None else [[batch] for batch in members]
    return chunks


def _has_images(batch: Microbatch) -> bool:
    return bool(batch.mm_kwargs if batch.prefix is None else batch.prefix.mm_kwargs)


def _idle_chunk(step: Sequence[PackedSequence], batcher: Batcher, *, images: bool) -> Chunk:
    """One idle micro-batch made of the step's shortest sequence of this kind."""
    shortest = min((s for s in step if bool(s.mm_kwargs or s.reply_images) == images and s.response_ids), key=len)
    first = replace(
        shortest,
        response_ids=shortest.response_ids[:1],
        advantages=shortest.advantages[:1],
        generator_logprobs=shortest.generator_logprobs[:1],
    )
    # A conversation stays whole: its positions and pictures are those of all turns.
    return [_idle(batch) for batch in batcher.batches([shortest if shortest.own else first])]


def _idle(batch: Microbatch) -> Microbatch:
    return replace(batch, weights=torch.zeros_like(batch.weights), advantages=batch.advantages.clone(), idle=True)


def _two_wide(batch: Microbatch) -> Microbatch:
    """A response of one token needs no forward beyond its prompt's; with a column of padding it has one."""
    if batch.prefix is None or batch.input_ids.shape[1] > 1:
        return batch
    padded: dict[str, Any] = {
        name: torch.nn.functional.pad(getattr(batch, name), (0, 1), value=value) for name, value in COLUMN.items()
    }
    return replace(batch, **padded, rope_ids=None)
