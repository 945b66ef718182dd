"""Work is dealt evenly, whole, and the same way on every rank."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from seethink.dist import dealing
from seethink.dist.dealing import deal, own_sequences
from seethink.rl.packing import PackedSequence


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 7))
def test_everything_is_dealt_once_and_evenly(costs: list[int], hands: int) -> None:
    shares = deal(costs, hands)
    assert len(shares) == hands
    assert sorted(place for share in shares for place in share) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares)
    totals = [sum(costs[place] for place in share) for share in shares]
    # Dealt greedily, no share exceeds an even one by more than one piece of work.
    assert max(totals) <= sum(costs) / hands + max(costs, default=0)


def test_a_known_deal() -> None:
    assert deal([5, 4, 3, 3, 3], 2) == [[0, 3], [1, 2, 4]]
    assert deal([1, 1, 1, 1], 2) == [[0, 2], [1, 3]]
    assert deal([7], 3) == [[0], [], []]


def sequence(group: int, tokens: int, index: int) -> PackedSequence:
    return PackedSequence([1, 2], [3] * tokens, {}, weight=1.0, index=index, group=group)


def test_groups_stay_whole() -> None:
    """The responses of one prompt share its forward, so that they must be on one rank."""
    sequences = [sequence(g, 3 + g, 4 * g + k) for g in range(5) for k in range(4)]
    assert own_sequences(sequences) is sequences
    found: list[int] = []
    for rank in range(3):
        with patch.multiple(dealing, rank=lambda rank=rank: rank, world_size=lambda: 3):
            own = own_sequences(sequences)
        groups = [s.group for s in own]
        assert all(groups.count(g) == 4 for g in set(groups))
        found += [s.index for s in own]
    assert sorted(found) == list(range(20))


def test_fewer_groups_than_ranks_are_cut() -> None:
    """Every rank has work, and every sequence is somebody's, once."""
    sequences = [sequence(g, 3, 4 * g + k) for g in range(2) for k in range(4)]
    shares = []
    for rank in range(6):
        with patch.multiple(dealing, rank=lambda rank=rank: rank, world_size=lambda: 6):
            shares.append([s.index for s in own_sequences(sequences)])
    assert sorted(index for share in shares for index in share) == list(range(8))
    assert all(1 <= len(share) <= 2 for share in shares)
