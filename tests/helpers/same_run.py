"""Whether two runs were the same, however many processes they had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.killing import stage_recipe


def short(folder: Path, name: str, stage: str, **overrides: Any) -> Path:
    """A recipe of few steps, whose run goes to the folder of the same name."""
    steps = {"sft.epochs": 2} if stage == "sft" else {"algorithm.steps": 4}
    return stage_recipe(folder, name, stage, **steps | overrides)


def tokens(run: Path) -> dict[str, list[Any]]:
    """What every stored step sampled."""
    kept = ("text", "token_ids", "reward", "tokens")
    return {
        path.name: [
            {key: completion[key] for key in kept if key in completion}
            for line in path.read_text().splitlines()
            for completion in json.loads(line)["completions"]
        ]
        for path in sorted((run / "rollouts").glob("*.jsonl"))
    }


def numbers(run: Path) -> list[dict[str, float]]:
    """A run's metrics but the clock's."""
    clock = ("time/", "throughput/")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.startswith(clock) and v is not None} for r in records]


def assert_same_run(ours: Path, whole: Path) -> None:
    """The same tokens, and the same numbers up to the order of sums."""
    assert tokens(ours) == tokens(whole)
    found, expected = numbers(ours), numbers(whole)
    assert [r["step"] for r in found] == [r["step"] for r in expected]
    for record, other in zip(found, expected, strict=True):
        assert record == pytest.approx(other, rel=2e-3, abs=2e-4)
