"""The machine that the run is meant for: the GPUs that are stated or found, and main memory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from seethink.core.errors import UserError
from seethink.doctor.check import gigabytes

_GPUS = re.compile(r"\s*(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*(?:gi?b?)?\s*", re.I)


@dataclass(frozen=True, slots=True)
class Gpus:
    """Example: `Gpus(8, 80 << 30, "stated")`"""

    count: int
    size: int
    """Bytes of each."""
    whence: str

    def __str__(self) -> str:
        return f"{self.count} x {gigabytes(self.size)} ({self.whence})"


def parse_gpus(text: str) -> Gpus:
    """`8x80`, `80`, `2 x 24GB`. Raises UserError."""
    match = _GPUS.fullmatch(text)
    count, size = (int(match[1] or 1), float(match[2])) if match else (0, 0.0)
    if not count or not size:
        raise UserError(f"--gpus {text!r} is not of the form COUNTxGIGABYTES, e.g. 8x80")
    return Gpus(count, int(size * (1 << 30)), "stated")


def find_gpus(stated: str | None) -> Gpus | None:
    """The stated GPUs, else those of this machine, else None."""
    if stated is not None:
        return parse_gpus(stated)
    if not torch.cuda.is_available():
        return None
    sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    return Gpus(len(sizes), min(sizes), "found here")


def free_main_memory() -> int:
    """Bytes that a new process could take, or 0 where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _group_limit())
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _group_limit() -> int:
    """What a container leaves; a very large number without one."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        return int(limit) - int(used)
    except (OSError, ValueError):
        return 1 << 62
