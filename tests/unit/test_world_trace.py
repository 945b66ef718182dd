"""What the teacher writes: right answers, declared shares of flaws, turns on hard items."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from helpers.rows import load_samples
from seethink.world.make import world_samples, write_parquet
from seethink.world.questions import TASKS, Item, make_item
from seethink.world.scenes import DOMAINS
from seethink.world.trace import (
    MIXED_SHARE,
    RAMBLING_SHARE,
    TURN_SHARE,
    WRONG_SHARE,
    caption,
    direct_answer,
    good_trace,
    teacher_trace,
)

TRACE = re.compile(r"<think>(?P<thought>.+)</think>The answer is (?P<answer>\w+)\.", re.DOTALL)
COUNT = 2000


@cache
def traced() -> list[tuple[Item, str]]:
    """Items of all domains and difficulties with the teacher's trace; a few pictures serve many traces."""
    rng = np.random.default_rng(2)
    made = [make_item(domain, level, "train", rng) for domain in DOMAINS for level in TASKS for _ in range(14)]
    return [(item, teacher_trace(item, rng)) for item in (made * (COUNT // len(made) + 1))[:COUNT]]


def answer_of(trace: str) -> str:
    found = TRACE.fullmatch(trace)
    assert found, trace
    return found["answer"]


def test_a_good_trace_ends_with_the_gold_answer_and_reads_the_picture() -> None:
    rng = np.random.default_rng(0)
    for item, _ in traced()[:600]:
        trace = good_trace(item, rng)
        assert answer_of(trace) == item.answer
        for name in item.question.used:
            assert f"{name} is {item.scene.values[name]}." in trace
        for sum_ in re.findall(r"(\d+)([+-])(\d+)=(\d+)", trace):
            a, sign, b, result = sum_
            assert int(a) + (int(b) if sign == "+" else -int(b)) == int(result)


def share(flags: list[bool]) -> tuple[float, float]:
    """(share, three standard errors)."""
    mean = float(np.mean(flags))
    return mean, 3 * float(np.sqrt(max(mean * (1 - mean), 1e-3) / len(flags)))


def test_flaws_come_in_the_declared_shares() -> None:
    wrong = [answer_of(trace) != item.answer for item, trace in traced()]
    rambling = [trace.count("Wait, let me check again.") >= 8 for _, trace in traced()]
    mixed = ["所以" in trace for _, trace in traced()]
    for flags, declared in ((wrong, WRONG_SHARE), (rambling, RAMBLING_SHARE), (mixed, MIXED_SHARE)):
        seen, margin = share(flags)
        assert seen == pytest.approx(declared, abs=margin)
    assert not any(w and (r or m) for w, r, m in zip(wrong, rambling, mixed, strict=True))


def test_turns_come_with_difficulty() -> None:
    rng = np.random.default_rng(1)
    for level, declared in TURN_SHARE.items():
        flags = [
            bool(re.search(r"\b(Wait|Alternatively)\b", good_trace(item, rng)))
            for item, _ in traced()
            if item.difficulty == level
        ]
        seen, margin = share(flags)
        assert seen == pytest.approx(declared, abs=margin), level
    hard = " ".join(good_trace(item, rng) for item, _ in traced() if item.difficulty == "hard")
    assert "Wait" in hard
    assert "Alternatively" in hard


def test_a_caption_says_every_quantity_once() -> None:
    for item, _ in traced()[:200]:
        said = re.findall(r"(\w+) is (\d+)\.", caption(item))
        assert [(name, int(value)) for name, value in said] == list(item.scene.values.items())
        assert direct_answer(item.answer) == f"The answer is {item.answer}."


def test_samples_carry_traces_only_where_asked() -> None:
    assert all(s.response is None for s in world_samples("world:math", "train", 6, 0))
    assert all(TRACE.fullmatch(s.response or "") for s in world_samples("world:math:traces", "train", 6, 0))


@pytest.mark.parametrize("source", ["world:all", "world:all:traces"])
def test_parquet_gives_the_same_samples_back(source: str, tmp_path: Path) -> None:
    samples = world_samples(source, "train", 36, 0)
    path = tmp_path / "new" / "world.parquet"
    write_parquet(samples, path)
    back = load_samples(str(path), "train", None, 0)
    assert len(back) == len(samples)
    for was, now in zip(samples, back, strict=True):
        assert now.pictures()[0].tobytes() == was.pictures()[0].tobytes()
        for field in ("id", "question", "answer", "choices", "domain", "difficulty", "response"):
            assert getattr(now, field) == getattr(was, field), field
