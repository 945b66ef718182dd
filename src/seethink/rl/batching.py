"""Episodes and traces -> the micro-batches of one gradient step.

`Batcher` is the one place that decides whether sequences share their prompts or are packed into rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from seethink.config import OptimConfig
from seethink.core.types import Completion, Microbatch, Prefix, Prompt, RolloutGroup
from seethink.models import shared_prompt
from seethink.models.load import LoadedModel
from seethink.models.prefix_attention import copy_free
from seethink.rl.losses import Aggregation, token_weights
from seethink.rl.packing import PackedSequence, pack
from seethink.rl.prompt_groups import pack_groups
from seethink.rl.uncertain import TokenMeasure, token_advantages


@dataclass(frozen=True, slots=True)
class Batcher:
    """How the sequences of a step are divided. The loss is a sum over tokens, so that no division changes it."""

    micro_tokens: int
    """Tokens per forward and backward."""
    pack_length: int
    """Tokens per packed row; 0: each sequence has a row of its own."""
    pad_id: int
    device: torch.device
    shares_prompts: bool = False
    """Whether a group's prompt goes through the model once for all its responses."""
    copies_prompts: bool = False
    """Whether the keys and values of a shared prompt are copied for each response."""

    @classmethod
    def for_model(cls, loaded: LoadedModel, optim: OptimConfig, *, groups: bool) -> Batcher:
        """For the loaded model; with `groups`, sequences come in groups of one prompt (reinforcement learning)."""
        # A shared prompt's tokens would count once for all responses in the loss that balances experts.
        shares = groups and optim.shared_prompt and not optim.router_aux_coef
        shares = shares and shared_prompt.refusal(loaded.model) is None
        return cls(
            micro_tokens=optim.tokens_on(loaded.device.type),
            pack_length=loaded.pack_length(optim.pack_length),
            pad_id=loaded.chat.pad_id,
            device=loaded.device,
            shares_prompts=shares,
            copies_prompts=shares and not copy_free(loaded.model, loaded.compute_dtype),
        )

    def with_tokens(self, micro_tokens: int) -> Batcher:
        """The same with another token budget. A row is never divided: rows become as short as a micro-batch."""
        return replace(self, micro_tokens=micro_tokens, pack_length=min(self.pack_length, micro_tokens))

    def batches(self, sequences: list[PackedSequence]) -> list[Microbatch]:
        """The sequences in micro-batches on the device; the same input gives the same micro-batches."""
        if self.shares_prompts:
            packed = pack_groups(
                sequences,
                micro_tokens=self.micro_tokens,
                pad_id=self.pad_id,
                device=self.device,
                copies=self.copies_prompts,
            )
        else:
            packed = pack(sequences, pack_length=self.pack_length, micro_tokens=self.micro_tokens, pad_id=self.pad_id)
        return [batch.to(self.device) for batch in packed]


def given_responses(pairs: Sequence[tuple[Prompt, list[int]]]) -> list[PackedSequence]:
    """(prompt, response ids) pairs as sequences of equal weight per token; the loss is the mean over their tokens."""
    tokens = sum(len(ids) for _, ids in pairs)
    return [
        PackedSequence(
            prompt.input_ids,
            ids,
            prompt.mm_kwargs,
            weight=1.0 / max(tokens, 1),
            index=place,
            rope_ids=prompt.rope_ids,
            group=place,
        )
        for place, (prompt, ids) in enumerate(pairs)
    ]


def given_conversations(pairs: Sequence[tuple[Prompt, Completion]]) -> list[PackedSequence]:
    """`given_responses` of conversations: the loss is the mean over the model's tokens."""
    tokens = sum(len(completion.token_ids) for _, completion in pairs)
    return [
        replace(after_prompt(prompt, completion), weight=1.0 / max(tokens, 1), index=place, group=place)
        for place, (prompt, completion) in enumerate(pairs)
    ]


def given_groups(groups: Sequence[RolloutGroup]) -> list[PackedSequence]:
    """`given_conversations` of whole groups, whose completions share their prompt; `index` counts all completions."""
    numbered = [(number, group.prompt, c) for number, group in enumerate(groups) for c in group.completions]
    sequences = given_conversations([(prompt, c) for _, prompt, c in numbered])
    return [replace(sequence, group=number) for (number, _, _), sequence in zip(numbered, sequences, strict=True)]


def tokens_by_index(batch: Microbatch) -> Iterator[tuple[int, Tensor]]:
    """(index of a sequence, [N] which of the batch's loss tokens are its own)"""
    owners = batch.sequence_ids[batch.loss_mask]
    for index in owners.unique().tolist():
        yield index, owners == index


def sampled_responses(
    groups: Sequence[RolloutGroup],
    aggregation: Aggregation,
    max_new_tokens: int,
    *,
    token_share: float = 1.0,
    token_measure: TokenMeasure = "entropy",
    leave_idle: bool = False,
) -> list[PackedSequence]:
    """The completions of one gradient step with their advantages; a completion without a reward (NaN) has weight 0.

    `index` counts the completions of all groups in order. `token_share` and `token_measure` are those of
    `token_advantages`. `leave_idle` leaves out sequences that give no gradient; the weights of the others count them
    all the same.
    """
    pairs = [(number, group.prompt, c) for number, group in enumerate(groups) for c in group.completions]
    lengths = [len(c.token_ids) if c.reward == c.reward else 0 for _, _, c in pairs]
    weights = token_weights(lengths, aggregation, max_new_tokens)
    advantages = token_advantages([c for _, _, c in pairs], token_share, token_measure)
    sequences = [
        replace(
            after_prompt(prompt, completion),
            weight=weight if length else 0.0,
            advantages=own,
            generator_logprobs=completion.generator_logprobs,
            index=index,
            group=number,
        )
        for index, ((number, prompt, completion), length, weight, own) in enumerate(
            zip(pairs, lengths, weights, advantages, strict=True)
        )
    ]
    return _with_gradient(sequences) if leave_idle else sequences


def after_prompt(prompt: Prompt, completion: Completion) -> PackedSequence:
    """A prompt and all that follows it: the model's tokens, and the replies in their places between them."""
    if not completion.replies:
        return PackedSequence(prompt.input_ids, completion.token_ids, prompt.mm_kwargs, rope_ids=prompt.rope_ids)
    ids: list[int] = []
    own: list[bool] = []
    starts = [0, *(reply.at for reply in completion.replies)]
    ends = [*starts[1:], len(completion.token_ids)]
    for start, end, said in zip(starts, ends, [*(r.token_ids for r in completion.replies), []], strict=True):
        ids += completion.token_ids[start:end] + said
        own += [True] * (end - start) + [False] * len(said)
    return PackedSequence(
        prompt.input_ids,
        ids,
        prompt.mm_kwargs,
        rope_ids=completion.rope_ids,
        own=own,
        reply_images=[reply.mm_kwargs for reply in completion.replies if reply.mm_kwargs],
    )


def _with_gradient(sequences: list[PackedSequence]) -> list[PackedSequence]:
    """The sequences with a weight and an advantage.

    Where none is left, or none with an image, one without gradient stays: the optimizer must see a gradient of zeros
    for the parts that it would have reached.
    """
    kept = [s for s in sequences if s.weight and any(s.advantages)]
    for idle in (next((s for s in sequences if s.mm_kwargs), None), *sequences[:1]):
        if idle is not None and not any(bool(s.mm_kwargs) >= bool(idle.mm_kwargs) for s in kept):
            kept.append(idle)
    return kept


def by_prefix(batches: Sequence[Microbatch]) -> Iterator[tuple[Prefix | None, list[Microbatch]]]:
    """Consecutive micro-batches that share prompts, with those prompts; None for packed rows."""
    for _, members in groupby(batches, key=lambda batch: id(batch.prefix)):
        run = list(members)
        yield run[0].prefix, run


def count_tokens(batches: Sequence[Microbatch]) -> int:
    """Tokens that go through the model; a shared prompt counts once, and an idle micro-batch not at all."""
    batches = [batch for batch in batches if not batch.idle]
    own = sum(int((batch.sequence_ids >= 0).sum()) for batch in batches)
    return own + sum(int(prefix.attention_mask.sum()) for prefix, _ in by_prefix(batches) if prefix is not None)
