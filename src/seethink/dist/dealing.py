"""Who does what: the work of a step is dealt to the ranks by its cost, the same way on every rank."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.dist.world import rank, world_size
from seethink.rl.packing import PackedSequence


def deal(costs: Sequence[float], hands: int) -> list[list[int]]:
    """The places of `costs` in `hands` shares of like total cost, each in ascending order.

    The costliest is dealt first, always to the share that has least so far (Graham's LPT rule: the largest share is at
    most 4/3 of the best possible). Equal costs are dealt in their order.
    """
    shares: list[list[int]] = [[] for _ in range(hands)]
    totals = [0.0] * hands
    for place in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        hand = min(range(hands), key=lambda h: (totals[h], len(shares[h]), h))
        shares[hand].append(place)
        totals[hand] += costs[place]
    return [sorted(share) for share in shares]


def own_sequences(sequences: list[PackedSequence], together: int = 1) -> list[PackedSequence]:
    """This rank's sequences of a step. Groups stay whole, because they share their prompt; the cost is in tokens.

    Where there are fewer groups than ranks, each is cut into as many parts as give every rank one. So many consecutive
    ranks `together` have the same sequences.
    """
    hands = world_size() // together
    if hands == 1:
        return sequences
    groups: dict[int, list[PackedSequence]] = {}
    for sequence in sequences:
        groups.setdefault(sequence.group, []).append(sequence)
    cuts = -(-hands // max(len(groups), 1))
    dealt = [members[part::cuts] for members in groups.values() for part in range(min(cuts, len(members)))]
    shares = deal([sum(map(len, members)) for members in dealt], hands)
    return [sequence for place in shares[rank() // together] for sequence in dealt[place]]
