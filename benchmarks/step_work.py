"""What both sides of benchmarks/step.py share: the work of a cell, phase timing, memory, and talking to the parent.

Runs in both environments, so it imports neither seethink nor trl, and torch only where tensors are made.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LR, BETAS, MAX_NORM, CLIP = 1e-6, (0.9, 0.999), 1.0, 0.2
"""The optimizer of both sides: AdamW, fused, no weight decay, constant rate. A small rate, so that steps stay alike."""
TEXT_IDS = (20, 400)
"""Ordinary tokens of the nano tokenizer: replayed responses are drawn from them."""
WORD = "red"


@dataclass(frozen=True)
class Cell:
    """One point of the grid. Every prompt has `prompt` tokens, `image_tokens` of them from its images."""

    model: str
    group: int
    prompt: int
    response: int
    prompts: int
    image_px: int
    images: int
    words: int
    """Filler words that bring the prompt to its length."""

    @property
    def rows(self) -> int:
        return self.prompts * self.group

    @property
    def image_tokens(self) -> int:
        return self.images * (self.image_px // 28) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of all rows, prompts counted once per row: the work that both sides are asked for."""
        return self.rows * (self.prompt + self.response)

    @property
    def key(self) -> str:
        return f"G{self.group} P{self.prompt} R{self.response}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """A prompt before any processor has seen it."""

    images: list[Image.Image]
    text: str


def make_rows(cell: Cell, count: int, seed: int = 0, extra: tuple[int, ...] = ()) -> list[Row]:
    """`count` prompts with noise pictures, decoded in memory; `extra` more filler words for the first ones."""
    rng = np.random.default_rng([seed, cell.prompt])
    shape = (cell.image_px, cell.image_px, 3)
    rows = []
    for i in range(count):
        pictures = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(cell.images)]
        words = cell.words + (extra[i] if i < len(extra) else 0)
        rows.append(Row(pictures, " ".join([WORD] * words)))
    return rows


@dataclass(frozen=True)
class Replay:
    """Rollouts that both sides train on: [rows][T] token ids and an advantage per row."""

    rows: list[Row]
    token_ids: list[list[int]]
    advantages: list[float]


def make_replay(cell: Cell, prompts: int, seed: int, *, ragged: bool = False) -> Replay:
    """Responses of random ordinary tokens. Ragged: lengths of 1 to R, and prompts of unlike length."""
    rng = np.random.default_rng([seed, cell.group, cell.prompt, cell.response])
    count = prompts * cell.group
    lengths = rng.integers(1, cell.response + 1, count) if ragged else np.full(count, cell.response)
    lengths[0] = cell.response
    ids = [rng.integers(*TEXT_IDS, int(n)).tolist() for n in lengths]
    rows = make_rows(cell, prompts, seed, extra=(5,) if ragged else ())
    return Replay(rows, ids, [float(a) for a in rng.standard_normal(count).astype(np.float32)])


def is_right(text: str) -> bool:
    """The reward of both sides: cheap, and random enough that groups have variance."""
    return bool(zlib.crc32(text.encode()) & 1)


class Phases:
    """Seconds by phase. Spans are exclusive: entering an inner one stops the outer's clock."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._seconds: dict[str, float] = {}
        self._began = self._mark = self._cpu = 0.0

    def start(self) -> None:
        self._seconds, self._stack = {}, ["other"]
        self._cpu = time.process_time()
        self._began = self._mark = time.perf_counter()

    def stop(self) -> dict[str, float]:
        """Seconds of every phase; `total`, their sum; and `cpu`, what all threads of the process used of the cores."""
        self._lap()
        self._stack = []
        return self._seconds | {"total": self._mark - self._began, "cpu": time.process_time() - self._cpu}

    def enter(self, name: str) -> None:
        if self._stack:
            self._lap()
            self._stack.append(name)

    def leave(self) -> None:
        if self._stack:
            self._lap()
            self._stack.pop()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Count every call of `owner.attribute` as phase `name`."""
        function: Callable[..., Any] = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.span(name):
                return function(*args, **kwargs)

        setattr(owner, attribute, timed)

    def _lap(self) -> None:
        now = time.perf_counter()
        self._seconds[self._stack[-1]] = self._seconds.get(self._stack[-1], 0.0) + now - self._mark
        self._mark = now


def memory_mb() -> dict[str, float]:
    """Resident memory now and its peak since `reset_peak`, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith("kB")}
    return {"now": found["VmRSS"], "peak": found["VmHWM"]}


def reset_peak() -> dict[str, float]:
    """Give unused memory back and let the peak start again from what is resident."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory_mb()


def flat(named: dict[str, Any]) -> np.ndarray:
    """Gradients in the order of their names, as one vector: the same on both sides, as the model classes are."""
    return np.concatenate([named[name].detach().float().numpy().ravel() for name in sorted(named)])


def claim_stdout() -> Any:
    """The pipe to the parent; whatever libraries print goes to stderr instead."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return pipe


def commands() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)
