"""Ranks decide together: one process has its own way, several have one answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from seethink.dist import agree
from seethink.dist.agreement import Rule

CASES: list[tuple[tuple[float, ...], Rule, float]] = [
    ((True, False), "any", True),
    ((False, False), "any", False),
    ((True, False), "all", False),
    ((True, True), "all", True),
    ((3, 5), "max", 5),
    ((3, 5), "min", 3),
    ((2**52, 1), "sum", 2**52 + 1),
    ((0.1, 0.2), "sum", 0.1 + 0.2),
]


def test_a_process_without_a_group_has_its_own_way() -> None:
    assert agree(True, "all") is True
    assert agree(7, "sum") == 7


def rank(number: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=world)
    try:
        for values, rule, expected in CASES:
            found = agree(values[number], rule)
            assert found == expected, (values, rule, found)
            assert type(found) is type(values[number])
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_have_one_answer(tmp_path: Path) -> None:
    torch.multiprocessing.set_sharing_strategy("file_system")
    mp.spawn(rank, args=(2, str(tmp_path)), nprocs=2)
