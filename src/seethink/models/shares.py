"""Tensors of which each rank may hold a share, and plain ones alike.

A share is told by its methods: importing torch's sharded tensors takes a second, which one process need not pay.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shares; where it is sharded, every rank must call it."""
    sharded: Any = tensor
    return sharded.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def own_share(tensor: Tensor) -> Tensor:
    """This rank's share of a tensor, or the plain tensor."""
    sharded: Any = tensor
    return sharded.to_local() if hasattr(tensor, "to_local") else tensor
