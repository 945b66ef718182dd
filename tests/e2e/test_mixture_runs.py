"""Runs on a mixture: what is drawn is logged, and a run that was stopped goes on in the same order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.killing import COMMON, STAGES, outcome
from helpers.rows import row, write_jsonl
from seethink.config import Recipe, make_recipe
from seethink.core.errors import UserError
from seethink.runs.metrics import read_metrics
from seethink.train.start import train

pytestmark = pytest.mark.slow


def recipe(home: Path, stage: str, **sources: float) -> Recipe:
    """Three sources by weight, one of them a file of four rows."""
    traced = ":traces" if stage == "sft" else ""
    rows = write_jsonl(
        home / "sums.jsonl",
        [row(prompt=f"{i} + 1?", answer=str(i + 1), response=f"<think>{i} + 1</think>{i + 1}") for i in range(4)],
    )
    weights = {"sums": 1.0, "math": 2.0, "dice": 1.0} | sources
    named: dict[str, Any] = {
        "sums": {"source": str(rows), "domain": "sums"},
        "math": {"source": f"world:math{traced}", "size": 12},
        "dice": {"source": f"world:dice{traced}", "size": 8},
    }
    words = {**COMMON, **STAGES[stage], "blindness.every": 0}
    table: dict[str, Any] = {"name": "run", "out": str(home / "run")}
    for key, value in words.items():
        if key not in ("data.train", "data.train_size"):
            section, _, name = key.partition(".")
            table.setdefault(section, {})[name] = value
    table |= {key: table[key][""] for key in ("model", "seed", "stage")}
    table["data"] = {**table.get("data", {}), "domain_weights": {"math": 2.0}}
    table["data"]["mixture"] = [{**named[name], "weight": weight} for name, weight in weights.items()]
    return make_recipe(table)


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_run_on_a_mixture_goes_on_as_if_it_had_not_been_stopped(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(tmp_path, stage)
    train(made)
    assert "mixture: source math: " in " ".join(capsys.readouterr().out.split())
    run = tmp_path / "run"
    whole, metrics = outcome(run), read_metrics(run)
    drawn = {name: sum(record[f"data/{name}"] for record in metrics) for name in ("sums", "math", "dice")}
    assert all(count > 0 for count in drawn.values())
    assert drawn["math"] == max(drawn.values())
    (run / "done.json").unlink()
    for newest in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(newest)
    train(made, resume=True)
    again = outcome(run)
    assert again["metrics"] == whole["metrics"]
    with pytest.raises(UserError, match=r"the recipe differs in data\.mixture"):
        train(recipe(tmp_path, stage, dice=3.0), resume=True)
