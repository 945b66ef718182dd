"""Item 39: what is only looked at cannot be written, and training goes on to the same weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.killing import stage_recipe
from seethink.config import Recipe, load_recipe
from seethink.runs.metrics import read_metrics
from seethink.train.start import train as train_stage

CLOCKS = ("time/", "throughput/")


def recipe(folder: Path) -> Recipe:
    keys = {"algorithm.steps": 2, "log.tensorboard": True, "algorithm.dynamic_sampling": False}
    return load_recipe(stage_recipe(folder, "run", "grpo", **keys))


def numbers(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith(CLOCKS)} for row in read_metrics(run)]


@pytest.mark.slow
def test_39_rollouts_parts_and_tracker_that_cannot_be_written(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files stand where folders should be, and the other way round: it fails for root too."""
    monkeypatch.setattr(sys.modules["seethink.train.start"], "refuse_foreign_folder", lambda *_, **__: None)
    whole, hindered = tmp_path / "a" / "run", tmp_path / "b" / "run"
    (hindered / "parts.json").mkdir(parents=True)
    for name in ("rollouts", "tensorboard"):
        (hindered / name).write_text("")
    last = train_stage(recipe(tmp_path / "a"))
    capsys.readouterr()
    train_stage(recipe(tmp_path / "b"))
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("cannot be written") == 4, "rollouts and parts in each of two steps"
    assert "no TensorBoard" in said
    assert numbers(hindered) == numbers(whole)
    weights = last.relative_to(whole) / "model.safetensors"
    assert (hindered / weights).read_bytes() == (whole / weights).read_bytes()
