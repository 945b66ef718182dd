"""The ranks of one run, as torchrun starts them: who this process is, and how it joins the others.

Every rank reads the same recipe and data, holds the same weights and makes the same decisions. Rank 0 writes the run
folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from seethink.core.errors import UserError

CPU = torch.device("cpu")
"""Decisions travel through main memory (gloo), gradients from where they are (NCCL on GPUs)."""
RENDEZVOUS = "SEETHINK_RENDEZVOUS"
"""Environment variable: a file through which ranks of one machine find each other, in place of a server."""
TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun sets for each of its processes, besides WORLD_SIZE."""


def started_as_rank() -> bool:
    """Whether torchrun or `launch` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_distributed() -> bool:
    """Whether this process belongs to a group of ranks."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process among the run's, from 0."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this is rank 0, which writes."""
    return rank() == 0


@contextmanager
def join_ranks(timeout_s: float) -> Iterator[None]:
    """Join the other ranks where torchrun or `launch` started this process; alone, or in a group already, do nothing.

    `timeout_s` is how long a rank waits for the others before it gives up. Raises UserError where torchrun's variables
    are incomplete.
    """
    if not started_as_rank() or is_distributed():
        yield
        return
    wanted, store = int(os.environ["WORLD_SIZE"]), os.environ.get(RENDEZVOUS)
    needed = TORCHRUN[:2] if store else TORCHRUN
    if missing := [name for name in needed if name not in os.environ]:
        raise UserError(
            f"WORLD_SIZE={wanted}, but {', '.join(missing)} is not set: start the ranks with `seethink launch RECIPE` "
            f"or `torchrun --nproc-per-node {wanted} -m seethink train RECIPE`"
        )
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=f"file://{store}" if store else "env://",
        rank=int(os.environ["RANK"]),
        world_size=wanted,
        timeout=timedelta(seconds=timeout_s),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
