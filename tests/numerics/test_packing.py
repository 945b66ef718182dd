"""Packed rows give what each sequence gives alone: no token sees another sequence, no image goes astray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nano import gradients, make_samples, relative_error
from seethink.core.types import Microbatch
from seethink.models.load import LoadedModel
from seethink.models.logprobs import token_logprobs
from seethink.rl.losses import sft_loss
from seethink.rl.packing import PackedSequence, collate, pack

IMAGES = (1, 0, 2, 1, 0, 0, 3)
LAYOUTS = {"one row": (10_000, 10_000), "several rows": (160, 10_000), "several micro-batches": (160, 320)}


def made_sequences(loaded: LoadedModel, images: Sequence[int] = IMAGES) -> list[PackedSequence]:
    sequences = []
    for index, sample in enumerate(make_samples(images)):
        prompt = loaded.chat.prompt(sample)
        response = loaded.chat.response_ids(sample.response or "")
        weight = 0.5 + 0.1 * index
        sequences.append(PackedSequence(prompt.input_ids, response, prompt.mm_kwargs, weight=weight, index=index))
    return sequences


def logprobs_by_sequence(loaded: LoadedModel, batches: list[Microbatch]) -> dict[int, torch.Tensor]:
    """Log-probs of every response; gradients of the weighted sum are left in the model."""
    found = {}
    for batch in batches:
        chosen, _, _ = token_logprobs(loaded.model, batch)
        sft_loss(chosen, batch.weights[batch.loss_mask]).backward()
        owners = batch.sequence_ids[batch.loss_mask]
        found |= {int(i): chosen[owners == i].detach() for i in owners.unique()}
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_equals_alone_in_values_and_gradients(nano64: LoadedModel, layout: str) -> None:
    sequences = made_sequences(nano64)
    pad = nano64.chat.pad_id
    alone = logprobs_by_sequence(nano64, [collate([[s]], pad) for s in sequences])
    expected = gradients(nano64.model)
    nano64.model.zero_grad()
    pack_length, micro_tokens = LAYOUTS[layout]
    batches = pack(sequences, pack_length=pack_length, micro_tokens=micro_tokens, pad_id=pad)
    packed = logprobs_by_sequence(nano64, batches)
    assert packed.keys() == alone.keys() == set(range(len(IMAGES)))
    assert max(relative_error(packed[i], alone[i]) for i in alone) < 1e-12
    assert relative_error(gradients(nano64.model), expected) < 1e-12


def test_no_attention_across_sequences(nano64: LoadedModel) -> None:
    """Other words, another picture in the first and the last sequence: the one between does not notice."""
    first, middle, last = made_sequences(nano64, (1, 1, 1))
    pad = nano64.chat.pad_id
    flipped = {"pixel_values": -first.mm_kwargs["pixel_values"]}
    others = (
        replace(first, response_ids=first.response_ids[::-1], mm_kwargs=flipped),
        replace(last, response_ids=last.response_ids[::-1], mm_kwargs=flipped),
    )
    before = logprobs_by_sequence(nano64, [collate([[first, middle, last]], pad)])
    after = logprobs_by_sequence(nano64, [collate([[others[0], middle, others[1]]], pad)])
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-13)
    assert all(relative_error(after[i], before[i]) > 1e-3 for i in (0, 2)), "the others did change"


def test_its_own_picture_is_seen(nano64: LoadedModel) -> None:
    """The second image of a sequence matters to it, and only to it."""
    one, two = made_sequences(nano64, (2, 2))
    pixels = two.mm_kwargs["pixel_values"].clone()
    pixels[1] *= -1
    pad = nano64.chat.pad_id
    before = logprobs_by_sequence(nano64, [collate([[one], [two]], pad)])
    after = logprobs_by_sequence(nano64, [collate([[one], [replace(two, mm_kwargs={"pixel_values": pixels})]], pad)])
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-13)
    assert relative_error(after[1], before[1]) > 1e-3


def test_positions_and_masks_by_hand() -> None:
    """Two sequences and a pad in one row; the example of `Microbatch`."""
    long = PackedSequence([5, 6], [7], weight=0.5, advantages=[2.0], generator_logprobs=[-1.0], index=3)
    short = PackedSequence([8], [9], weight=0.25, advantages=[-1.0], generator_logprobs=[-2.0], index=1)
    wide = PackedSequence([1, 2, 3, 4], [5, 6], index=0)
    batch = collate([[long, short], [wide]], pad_id=0)
    assert batch.input_ids.tolist()[0] == [5, 6, 7, 8, 9, 0]
    assert batch.position_ids.tolist()[0] == [0, 1, 2, 0, 1, 0]
    assert batch.loss_mask.tolist() == [[False, False, True, False, True, False], [False] * 4 + [True] * 2]
    assert batch.weights.tolist()[0] == [0, 0, 0.5, 0, 0.25, 0]
    assert batch.advantages.tolist()[0] == [0, 0, 2.0, 0, -1.0, 0]
    assert batch.generator_logprobs.tolist()[0] == [0, 0, -1.0, 0, -2.0, 0]
    assert batch.sequence_ids.tolist() == [[3, 3, 3, 1, 1, -1], [0] * 6]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=25),
    pack_length=st.integers(5, 60),
    micro_tokens=st.integers(20, 200),
)
def test_every_sequence_is_packed_once_within_the_budget(
    lengths: list[int], pack_length: int, micro_tokens: int
) -> None:
    sequences = [
        PackedSequence([1], [2] * n, {"pixel_values": torch.full((1,), i)}, index=i) for i, n in enumerate(lengths)
    ]
    batches = pack(sequences, pack_length=pack_length, micro_tokens=micro_tokens, pad_id=0)
    seen: list[int] = []
    for batch in batches:
        rows, width = batch.input_ids.shape
        used = (batch.sequence_ids >= 0).sum(1)
        assert width == used.max()
        assert rows * width <= micro_tokens or rows == 1
        alone = torch.tensor([len(set(row.tolist()) - {-1}) == 1 for row in batch.sequence_ids])
        assert ((used <= pack_length) | alone).all()
        order = list(dict.fromkeys(i for i in batch.sequence_ids.flatten().tolist() if i >= 0))
        assert batch.mm_kwargs["pixel_values"].tolist() == order, "images follow their sequences"
        seen += order
        counts = {i: int((batch.sequence_ids == i).sum()) for i in order}
        assert counts == {i: lengths[i] + 1 for i in order}
    assert sorted(seen) == list(range(len(lengths)))
