"""Several ranks of one run on this machine, for tests."""

from __future__ import annotations

import gc
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
    # Forked, so that torch and transformers are loaded once.
    mp.start_processes(_rank, args=(world, str(store), work, args), nprocs=world, start_method="fork")


def _rank(number: int, world: int, store: str, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    # What the parent has let go of stays: a process group that ends here would wait for a thread that was not forked.
    gc.freeze()
    torch.set_num_threads(1)
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
