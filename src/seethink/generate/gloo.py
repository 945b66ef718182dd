"""A gloo group of the trainer and a server's workers, beside whatever groups either has. Imported on both sides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

ENGINE = "seethink_gloo"
"""The server's weight-transfer backend."""
STEP_S = 120.0
"""Seconds for one bucket, and for every other step of an update."""


def gloo_group(address: str, port: int, rank: int, world: int, *, listener: int | None = None, own: str = "") -> Any:
    """(group, store) of `world` processes that meet at rank 0's address and port.

    `listener` is rank 0's socket, which listens there alone: the store would listen on every interface. `own` is the
    address of another rank.
    """
    from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

    timeout = timedelta(seconds=STEP_S)
    store = TCPStore(
        address, port, world, is_master=rank == 0, timeout=timeout, wait_for_workers=False, master_listen_fd=listener
    )
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=own or address)]
    options._timeout = timeout
    return ProcessGroupGloo(PrefixStore("seethink", store), rank, world, options), store


def broadcast(group: Any, tensor: Tensor) -> Any:
    """Begin to send or receive rank 0's tensor; returns the work in progress."""
    options = torch.distributed.BroadcastOptions()
    options.rootRank, options.rootTensor = 0, 0
    return group.broadcast([tensor], options)
