"""Packing: every token once, in rows and micro-batches within their limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seethink.core.types import Microbatch
from seethink.rl.packing import PackedSequence, collate, pack
from seethink.rl.prompt_groups import PROMPTS_SHARE, pack_groups

PAD = 0


def sequence(index: int, prompt: int, response: int, weight: float = 1.0, images: int = 0) -> PackedSequence:
    """Ids that tell sequence and place."""
    ids = [1000 * (index + 1) + i for i in range(prompt + response)]
    pixels = {"pixel_values": torch.full((images, 3, 2, 2), float(index))} if images else {}
    return PackedSequence(
        ids[:prompt],
        ids[prompt:],
        pixels,
        weight=weight,
        advantages=[index + 0.5] * response,
        generator_logprobs=[-0.1 * i for i in range(response)],
        index=index,
    )


def sequences(sizes: list[tuple[int, int]]) -> list[PackedSequence]:
    return [sequence(i, prompt, response) for i, (prompt, response) in enumerate(sizes)]


def found(batches: list[Microbatch], index: int) -> tuple[Microbatch, int, list[int]]:
    """Where a sequence lies: (batch, row, columns)."""
    places = [(b, r) for b in batches for r in range(len(b.input_ids)) if (b.sequence_ids[r] == index).any()]
    assert len(places) == 1, "a sequence must be in one row"
    batch, r = places[0]
    return batch, r, (batch.sequence_ids[r] == index).nonzero().squeeze(1).tolist()


sizes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=20)


@given(sizes=sizes, pack_length=st.integers(5, 40), micro_tokens=st.integers(10, 120))
@settings(max_examples=120, deadline=None)
def test_all_tokens_are_there_once_and_limits_hold(
    sizes: list[tuple[int, int]], pack_length: int, micro_tokens: int
) -> None:
    given_ = sequences(sizes)
    batches = pack(given_, pack_length=pack_length, micro_tokens=micro_tokens, pad_id=PAD)
    everything = torch.cat([b.input_ids.flatten() for b in batches])
    expected = sorted(i for s in given_ for i in s.prompt_ids + s.response_ids)
    assert sorted(everything[everything != PAD].tolist()) == expected
    for s in given_:
        batch, row, columns = found(batches, s.index)
        assert columns == list(range(columns[0], columns[0] + len(s)))
        assert batch.input_ids[row, columns].tolist() == s.prompt_ids + s.response_ids
        assert batch.position_ids[row, columns].tolist() == list(range(len(s)))
        reply = columns[len(s.prompt_ids) :]
        assert batch.loss_mask[row, columns].tolist() == [False] * len(s.prompt_ids) + [True] * len(s.response_ids)
        assert batch.advantages[row, reply].tolist() == list(s.advantages)
        assert batch.generator_logprobs[row, reply].tolist() == pytest.approx(list(s.generator_logprobs))
    for batch in batches:
        height, width = batch.input_ids.shape
        for row in batch.sequence_ids:
            filled, alone = int((row >= 0).sum()), len(row[row >= 0].unique()) == 1
            assert filled <= pack_length or alone
        assert height * width <= micro_tokens or height == 1
        padding = batch.sequence_ids < 0
        assert not batch.loss_mask[padding].any()
        assert batch.weights[padding].abs().sum() == batch.advantages[padding].abs().sum() == 0


def test_the_same_sequences_pack_the_same_way() -> None:
    one, two = (pack(sequences([(3, 4), (5, 2), (1, 6)]), pack_length=12, micro_tokens=24, pad_id=PAD) for _ in "ab")
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(one, two, strict=True))


def test_rows_are_filled_well() -> None:
    batches = pack(sequences([(5, 5), (2, 3), (2, 3), (1, 9), (4, 1)]), pack_length=10, micro_tokens=100, pad_id=PAD)
    assert [tuple(b.input_ids.shape) for b in batches] == [(4, 10)]


def test_weights_are_on_response_tokens_and_sum_to_what_was_given() -> None:
    given_ = [sequence(0, 3, 4, weight=0.1), sequence(1, 2, 5, weight=0.02)]
    batches = pack(given_, pack_length=20, micro_tokens=40, pad_id=PAD)
    total = sum(float(b.weights.sum()) for b in batches)
    assert total == pytest.approx(4 * 0.1 + 5 * 0.02)
    for b in batches:
        assert b.weights[~b.loss_mask].abs().sum() == 0


def test_images_follow_their_sequences() -> None:
    given_ = [sequence(0, 2, 1, images=1), sequence(1, 2, 4), sequence(2, 2, 3, images=2)]
    (batch,) = pack(given_, pack_length=7, micro_tokens=100, pad_id=PAD)
    in_order = list(dict.fromkeys(i for i in batch.sequence_ids.flatten().tolist() if i >= 0))
    expected = [float(i) for i in in_order for _ in range({0: 1, 1: 0, 2: 2}[i])]
    assert batch.mm_kwargs["pixel_values"][:, 0, 0, 0].tolist() == expected


def test_text_alone_has_no_image_tensors() -> None:
    assert collate([sequences([(2, 2)])], PAD).mm_kwargs == {}


def test_outside_rl_there_are_no_advantages() -> None:
    batch = collate([[PackedSequence([1, 2], [3, 4])]], PAD)
    assert batch.advantages.abs().sum() == batch.generator_logprobs.abs().sum() == 0
    assert batch.weights.tolist() == [[0, 0, 1, 1]]


def test_nothing_packs_into_nothing() -> None:
    assert pack([], pack_length=8, micro_tokens=8, pad_id=PAD) == []


@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.lists(st.integers(1, 12), min_size=1, max_size=4)), min_size=1),
    micro_tokens=st.integers(10, 120),
)
@settings(max_examples=60, deadline=None)
def test_groups_keep_every_token_and_both_budgets(sizes: list[tuple[int, list[int]]], micro_tokens: int) -> None:
    members = [
        replace(sequence(100 * group + i, prompt, response), group=group, prompt_ids=[7] * prompt)
        for group, (prompt, responses) in enumerate(sizes)
        for i, response in enumerate(responses)
    ]
    batches = pack_groups(members, micro_tokens=micro_tokens, pad_id=PAD, device="cpu", copies=False)
    prefixes = {id(batch.prefix): batch.prefix for batch in batches}
    prompts = [int(n) for prefix in prefixes.values() for n in prefix.attention_mask.sum(1)]
    assert sorted(prompts) == sorted(prompt for prompt, _ in sizes), "every prompt once"
    for prefix in prefixes.values():
        assert prefix.input_ids.numel() <= micro_tokens // PROMPTS_SHARE or len(prefix.input_ids) == 1
    for batch in batches:
        assert batch.input_ids.numel() <= micro_tokens or len(batch.input_ids) == 1
    for member in members:
        batch, row, columns = found(batches, member.index)
        assert batch.input_ids[row, columns].tolist() == member.response_ids
        assert int(batch.prefix.attention_mask[batch.prefix_rows[row]].sum()) == len(member.prompt_ids)
