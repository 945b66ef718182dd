"""Several ranks of one run on this machine, for tests."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen, run
from typing import Any

import torch
import torch.multiprocessing as mp

from seethink.config import load_recipe
from seethink.dist.world import RENDEZVOUS, join_ranks
from seethink.train.start import train

QUICK = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "160"}


def on_ranks(world: int, work: Callable[..., None], folder: Path, *args: Any) -> None:
    """Call `work(*args)` in `world` processes that have joined; an exception in one of them is raised here."""
    store = folder / f"store-{world}-{work.__name__}"
    # Forked from a process that has loaded the libraries and done nothing else. A fork of this one would lack the
    # threads that the tests before have started, of which what they have left in memory knows nothing.
    multiprocessing.set_forkserver_preload(["seethink.studies.lab.warm"])
    about = (world, str(store), dict(os.environ), work, args)
    mp.start_processes(_rank, args=about, nprocs=world, start_method="forkserver")


def _rank(
    number: int, world: int, store: str, variables: dict[str, str], work: Callable[..., None], args: tuple[Any, ...]
) -> None:
    faulthandler.enable()  # a rank that crashes says where
    torch.set_num_threads(1)
    os.environ |= variables  # the server that this process is forked from has those of its start
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(world), "LOCAL_RANK": str(number), RENDEZVOUS: store}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with join_ranks(120):
        work(*args)


def train_on_ranks(world: int, recipe: Path, *, resume: bool = False) -> None:
    """The run of a recipe on `world` ranks, without the launcher."""
    on_ranks(world, _train, recipe.parent, recipe, resume)


def _train(recipe: Path, resume: bool) -> None:
    train(load_recipe(recipe), resume=resume)


def launch(recipe: Path, *words: str, trainers: int) -> CompletedProcess[str]:
    """`seethink launch`, to its end."""
    return run(_command(recipe, words, trainers), env=QUICK, capture_output=True, text=True, timeout=300, check=False)


def start_launch(recipe: Path, *words: str, trainers: int) -> Popen[bytes]:
    return Popen(_command(recipe, words, trainers), env=QUICK)


def _command(recipe: Path, words: tuple[str, ...], trainers: int) -> list[str]:
    return [sys.executable, "-m", "seethink", "launch", str(recipe), f"cluster.trainers={trainers}", *words]
