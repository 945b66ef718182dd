"""Ranks in groups that share the tokens of each sequence (models/sequence_share.py has what they do)."""

from __future__ import annotations

import torch.distributed as dist

from seethink.core.errors import UserError
from seethink.dist.world import world_size
from seethink.models.sequence_share import SequenceShare


def sequence_share(ranks: int) -> SequenceShare | None:
    """This rank's place in its group of `ranks` consecutive ones; None for a group of one, and for one process.

    Every rank must call it. Raises UserError where `ranks` does not divide their number.
    """
    if ranks == 1 or world_size() == 1:
        return None
    if world_size() % ranks:
        raise UserError(
            f"cluster.sequence_parallel={ranks} does not divide the {world_size()} training processes; start a "
            f"multiple of {ranks}"
        )
    group, _ = dist.new_subgroups(group_size=ranks)
    return SequenceShare(group)
