"""Rules on logits: against a naive row-by-row reading of what they promise, and in real decoding."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nano import load_nano, make_samples
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.in_process.rules import CloseThinking, ForbidSequences, written_table
from seethink.generate.protocol import Forbid, Sampling, ThinkingBudget
from seethink.models.load import LoadedModel
from seethink.rewards.format import CLOSE

VOCABULARY = 6


@pytest.fixture(scope="module")
def nano(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


def drawn(*rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flat logits, and the ids of each row, -1 beyond its length."""
    ids = torch.full((len(rows), 8), -1)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return torch.zeros(len(rows), VOCABULARY), ids, torch.tensor([len(tokens) for tokens in rows])


def open_ids(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def test_forbidden_sequences_by_hand() -> None:
    rule = ForbidSequences([(5,), (1, 2), (1, 1, 3), (0, 2)])
    assert open_ids(rule(*drawn([], [1], [1, 1], [0], [1, 0, 3]))) == [
        [0, 1, 2, 3, 4],
        [0, 1, 3, 4],
        [0, 1, 4],
        [0, 1, 3, 4],
        [0, 1, 2, 3, 4],
    ]


tokens = st.integers(0, VOCABULARY - 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(tokens, min_size=1, max_size=4).map(tuple), max_size=6),
    st.lists(st.lists(tokens, max_size=8), min_size=1, max_size=5),
)
def test_forbid_equals_a_naive_reading(sequences: list[tuple[int, ...]], rows: list[list[int]]) -> None:
    expected = [[v for v in range(VOCABULARY) if not any((*row, v)[-len(s) :] == s for s in sequences)] for row in rows]
    assert open_ids(ForbidSequences(sequences)(*drawn(*rows))) == expected


PIECES = ["<", "/", "</", "think", "th", "ink", ">", ">\n", "</think>", "a</thi", "x"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=8))
def test_the_tag_is_found_however_it_is_cut(ids: list[int]) -> None:
    table, written = written_table(CLOSE, PIECES), 0
    for token in ids:
        written = table[written, token]
    assert (written == len(CLOSE)) == (CLOSE in "".join(PIECES[token] for token in ids))


def test_the_close_is_forced_token_after_token_where_it_is_missing() -> None:
    """Pieces 1 and 2 are the tag. The first row had closed, the second not, the third is under budget."""
    rule = CloseThinking(3, CLOSE, [1, 2], ["a", "</thi", "nk>", "b", "c", "d"])
    everything = list(range(VOCABULARY))
    assert open_ids(rule(*drawn([1, 2, 0], [0, 3, 1], [0, 3]))) == [everything, [1], everything]
    assert open_ids(rule(*drawn([1, 2, 0, 3], [0, 3, 1, 1]))) == [everything, [2]]
    assert open_ids(rule(*drawn([1, 2, 0, 3, 3], [0, 3, 1, 1, 2]))) == [everything, everything]


def test_decoding_never_draws_what_is_forbidden(nano: LoadedModel) -> None:
    prompts = [nano.chat.prompt(s) for s in make_samples([1, 0])]
    generator = InProcessGenerator(nano)
    free = generator.generate(prompts, 8, Sampling(24), (0,))
    pairs = [pair for c in free[0] + free[1] for pair in pairwise(c.token_ids)]
    singles = [(c.token_ids[0],) for c in free[0]]
    ruled = generator.generate(prompts, 8, Sampling(24, rules=(Forbid(tuple(pairs + singles)),)), (0,))
    for completion in ruled[0] + ruled[1]:
        ids = completion.token_ids
        assert not set(pairwise(ids)) & set(pairs)
        assert not {(i,) for i in ids} & set(singles)


def test_decoding_closes_the_block_at_the_budget_and_changes_nothing_before(nano: LoadedModel) -> None:
    chat = nano.chat
    close = chat.tokenizer(CLOSE, add_special_tokens=False)["input_ids"]
    rule = ThinkingBudget(6, CLOSE, tuple(close))
    prompts = [chat.prompt(s) for s in make_samples([1, 0])]
    generator = InProcessGenerator(nano)
    free = generator.generate(prompts, 6, Sampling(16), (3,))
    ruled = generator.generate(prompts, 6, Sampling(16, rules=(rule,)), (3,))
    due = 0
    for a, b in zip(np.ravel(free), np.ravel(ruled), strict=True):
        assert a.token_ids[:6] == b.token_ids[:6]
        if len(b.token_ids) > 6 and CLOSE not in chat.decode(b.token_ids[:6]):
            due += 1
            assert b.token_ids[6 : 6 + len(close)] == close
    assert due
