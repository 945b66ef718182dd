"""Groups -> micro-batches that share their prompts: prompts padded on the left, responses in rows on the right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from seethink.core.types import Microbatch, Prefix
from seethink.models.padding import left_pad, next_positions
from seethink.rl.packing import PackedSequence, collate

PROMPTS_SHARE = 4
"""Prompts take this part of a micro-batch's tokens, one prompt at least: their graph is kept beside the responses'."""


def pack_groups(
    sequences: list[PackedSequence], *, micro_tokens: int, pad_id: int, device: Any, copies: bool = True
) -> list[Microbatch]:
    """Response rows that follow shared prompts. Sequences of one `group` have one prompt.

    Responses of like length share a forward of at most `micro_tokens`, with what each sees of its prompt where that is
    copied (`copies`); prompts one of a share of them. Longest first, so that little is padded. The same input gives the
    same batches.
    """
    groups: dict[int, list[PackedSequence]] = {}
    for sequence in sequences:
        groups.setdefault(sequence.group, []).append(sequence)
    batches: list[Microbatch] = []
    for chunk in _prompt_chunks(list(groups.values()), micro_tokens // PROMPTS_SHARE):
        prefix = left_pad([PromptHalf(group[0]) for group in chunk], pad_id).to(device)
        batches += _response_batches(chunk, prefix, micro_tokens, pad_id, prefix.input_ids.shape[1] if copies else 0)
    return batches


def _prompt_chunks(groups: list[list[PackedSequence]], micro_tokens: int) -> list[list[list[PackedSequence]]]:
    """Groups whose prompts go through the model together."""
    chunks: list[list[list[PackedSequence]]] = []
    width = 0
    for group in sorted(groups, key=lambda g: (-len(g[0].prompt_ids), g[0].index)):
        if chunks and width * (len(chunks[-1]) + 1) <= micro_tokens:
            chunks[-1].append(group)
        else:
            chunks.append([group])
            width = len(group[0].prompt_ids)
    return chunks


def _response_batches(
    groups: list[list[PackedSequence]], prefix: Prefix, micro_tokens: int, pad_id: int, seen: int
) -> list[Microbatch]:
    """`seen`: tokens of a prompt that count for each of its responses."""
    rows = [(number, s) for number, group in enumerate(groups) for s in group if s.response_ids]
    rows.sort(key=lambda row: (-len(row[1].response_ids), row[1].index))
    starts = next_positions(prefix)
    batches = []
    while rows:
        fit = max(1, micro_tokens // (seen + len(rows[0][1].response_ids)))
        chunk, rows = sorted(rows[:fit], key=lambda row: row[0]), rows[fit:]
        assert not any(s.reply_images for _, s in chunk), "the recipe refuses pictures after a shared prompt"
        batch = collate([[replace(s, prompt_ids=[], mm_kwargs={}, rope_ids=None)] for _, s in chunk], pad_id)
        batch.prefix, batch.prefix_rows = prefix, torch.tensor([number for number, _ in chunk])
        batch.position_ids += starts.cpu()[batch.prefix_rows][:, None]
        batches.append(batch)
    return batches


class PromptHalf:
    """A sequence seen as its prompt."""

    def __init__(self, sequence: PackedSequence) -> None:
        self.input_ids, self.mm_kwargs = sequence.prompt_ids, sequence.mm_kwargs
        rope = sequence.rope_ids
        self.rope_ids = None if rope is None else rope[:, : len(sequence.prompt_ids)]
