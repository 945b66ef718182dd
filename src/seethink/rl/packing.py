"""Sequences -> packed micro-batches. Several sequences share a row; `position_ids` restart at each.

A conversation's response holds the environment's replies too; its mask says which tokens the model wrote.

transformers builds a block-diagonal causal mask from restarting positions, so packed sequences do not see each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

import torch
from torch import Tensor

from seethink.core.types import Microbatch
from seethink.models.padding import join_images


@dataclass(slots=True)
class PackedSequence:
    """A prompt and a response, with what RL knows of the response's tokens.

    Letters: R response tokens, N of them the model's own, which is all of them but in conversations.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    mm_kwargs: dict[str, Tensor] = field(default_factory=dict)
    weight: float = 1.0
    """Share in the loss of each of the model's tokens."""
    advantages: Sequence[float] = ()
    """[N], or empty outside RL."""
    generator_logprobs: Sequence[float] = ()
    """[N], or empty outside RL."""
    index: int = 0
    """Place in the whole batch; comes back as `sequence_ids`."""
    rope_ids: Tensor | None = None
    """[3, prompt tokens] with M-RoPE, else None; of a conversation [3, tokens before the last turn]."""
    group: int = 0
    """Sequences of one group have the same prompt (models/shared_prompt.py)."""
    own: Sequence[bool] = ()
    """[R] True where the model wrote the token, False in a reply; empty: the model wrote all."""
    reply_images: Sequence[dict[str, Tensor]] = ()
    """Image tensors of the replies, in order."""

    @property
    def own_ids(self) -> list[int]:
        """[N] the model's tokens."""
        return list(compress(self.response_ids, self.own)) if self.own else self.response_ids

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


def pack(sequences: list[PackedSequence], *, pack_length: int, micro_tokens: int, pad_id: int) -> list[Microbatch]:
    """All sequences in rows of at most `pack_length` tokens, rows in micro-batches of at most `micro_tokens`.

    Longest first, each into the fullest row that has room; a sequence longer than `pack_length` gets a row alone.
    The same input gives the same packing.
    """
    rows: list[list[PackedSequence]] = []
    used: list[int] = []
    for sequence in sorted(sequences, key=lambda s: (-len(s), s.index)):
        fits = [i for i, filled in enumerate(used) if filled + len(sequence) <= pack_length]
        if fits:
            row = max(fits, key=lambda i: used[i])
            rows[row].append(sequence)
            used[row] += len(sequence)
        else:
            rows.append([sequence])
            used.append(len(sequence))
    return [collate(chunk, pad_id) for chunk in _split_rows(rows, micro_tokens)]


def _split_rows(rows: list[list[PackedSequence]], micro_tokens: int) -> list[list[list[PackedSequence]]]:
    """Rows of like width together, so that little is padded."""
    rows = sorted(rows, key=lambda row: -sum(map(len, row)))
    chunks: list[list[list[PackedSequence]]] = []
    width = 0
    for row in rows:
        if chunks and width * (len(chunks[-1]) + 1) <= micro_tokens:
            chunks[-1].append(row)
        else:
            chunks.append([row])
            width = sum(map(len, row))
    return chunks


def collate(rows: list[list[PackedSequence]], pad_id: int) -> Microbatch:
    """Make one micro-batch; sequences in the same row do not see each other.

    Args:
        rows: [B] The sequences of each row. A row of one sequence is right for every family of models.
        pad_id: Token that fills rows up to the longest; `loaded.chat.pad_id`.

    Returns:
        A micro-batch of B rows on the CPU, padded on the right.
    """
    width = max(sum(map(len, row)) for row in rows)
    shape = (len(rows), width)
    batch = Microbatch(
        input_ids=torch.full(shape, pad_id),
        position_ids=torch.zeros(shape, dtype=torch.long),
        rope_ids=_empty_rope(rows, shape),
        loss_mask=torch.zeros(shape, dtype=torch.bool),
        mm_kwargs=join_images([part for row in rows for s in row for part in (s.mm_kwargs, *s.reply_images)]),
        generator_logprobs=torch.zeros(shape),
        advantages=torch.zeros(shape),
        weights=torch.zeros(shape),
        sequence_ids=torch.full(shape, -1),
    )
    for b, row in enumerate(rows):
        start = 0
        for sequence in row:
            _fill(batch, b, start, sequence)
            start += len(sequence)
    return batch


def _fill(batch: Microbatch, b: int, start: int, sequence: PackedSequence) -> None:
    end, reply = start + len(sequence), start + len(sequence.prompt_ids)
    batch.input_ids[b, start:end] = torch.tensor(sequence.prompt_ids + sequence.response_ids)
    batch.position_ids[b, start:end] = torch.arange(end - start)
    if batch.rope_ids is not None and sequence.rope_ids is not None:
        following = len(sequence) - sequence.rope_ids.shape[1]
        batch.rope_ids[:, b, start:end] = with_response(sequence.rope_ids, following)
    own = torch.tensor(sequence.own or [True] * len(sequence.response_ids), dtype=torch.bool)
    batch.loss_mask[b, reply:end] = own
    batch.weights[b, reply:end][own] = sequence.weight
    batch.sequence_ids[b, start:end] = sequence.index
    if len(sequence.advantages):
        batch.advantages[b, reply:end][own] = torch.tensor(sequence.advantages, dtype=torch.float32)
    if len(sequence.generator_logprobs):
        batch.generator_logprobs[b, reply:end][own] = torch.tensor(sequence.generator_logprobs)


def _empty_rope(rows: list[list[PackedSequence]], shape: tuple[int, int]) -> Tensor | None:
    if all(sequence.rope_ids is None for row in rows for sequence in row):
        return None
    return torch.zeros(3, *shape, dtype=torch.long)


def with_response(rope_ids: Tensor, length: int) -> Tensor:
    """[3, P] positions of a prompt -> [3, P + length]: the response counts on from its last token, a text's."""
    response = rope_ids[:, -1:] + 1 + torch.arange(length, device=rope_ids.device)
    return torch.cat([rope_ids, response], dim=1)
