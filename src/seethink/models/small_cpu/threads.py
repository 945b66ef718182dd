"""How many threads a small decoding step can use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from seethink.models import small_cpu

LEAST_WORK = 1_000_000_000
"""Parameters times rows from which several threads pay. With less work they wait for each other longer than they work:
with 8 rows of the nano model two threads take 6.9 ms per step and one thread 2.3; with 256 rows 19.5 and 18.0; a
rollout of 256 rows of nano2 (6.6e8) takes 3.2 s with two and 2.3 with one. With 16 rows of a model of 28 million
parameters (4.5e8) both take the same, with 256 rows two threads take 0.7 of the time (2 cores, torch 2.13)."""


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """One thread where there is little work, else as many as torch has been given."""
    given = torch.get_num_threads()
    torch.set_num_threads(given if work >= LEAST_WORK or not small_cpu.ENABLED else 1)
    try:
        yield
    finally:
        torch.set_num_threads(given)
