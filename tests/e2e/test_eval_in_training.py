"""`[eval]` during training: accuracy with its standard error in the metrics, in the report, and as best_metric."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import nano_recipe
from seethink.core.errors import UserError
from seethink.report import write_report
from seethink.train.start import train
from seethink.world.make import world_samples, write_parquet

EVAL = ("eval.every=2", "eval.size=4", "eval.max_new_tokens=12", "blindness.every=0", "checkpoint.every=2")
RL = ("rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.max_new_tokens=8", "algorithm.steps=3")


def run(out: Path, *overrides: str, stage: str = "grpo") -> list[dict[str, Any]]:
    train(nano_recipe("nano", *EVAL, *overrides, stage=stage, out=str(out)))
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_rl_measures_every_so_many_steps_and_at_its_end(tmp_path: Path) -> None:
    best = ("checkpoint.keep=1", "checkpoint.keep_best=1", "checkpoint.best_metric=eval/math,dice/accuracy")
    data = ("data.train=world:math", "data.train_size=8", "eval.data=world:math,dice", "eval.samples=2")
    records = run(tmp_path / "run", *RL, *data, *best)
    assert [("eval/math,dice/accuracy" in r, "time/eval_s" in r) for r in records] == [
        (False, False), (True, True), (True, True),
    ]  # fmt: skip
    for record in records[1:]:
        assert 0 <= record["eval/math,dice/accuracy"] <= 1
        assert 0 <= record["eval/math,dice/stderr"] < 0.5
        assert {"eval/math,dice/math/accuracy", "eval/math,dice/dice/stderr"} <= record.keys()
    scores = {r["step"]: r["eval/math,dice/accuracy"] for r in records[1:]}
    kept = {int(path.name.removeprefix("step_")) for path in (tmp_path / "run" / "checkpoints").glob("step_*")}
    # Of equal scores the older stays; the newest checkpoint always does.
    assert kept == {3, max(scores, key=lambda step: (scores[step], -step))}
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "Held-out accuracy" in page


@pytest.mark.slow
def test_sft_on_a_file_greedily_and_training_is_the_same_without(tmp_path: Path) -> None:
    write_parquet(world_samples("world:math", "test", 6, 0), tmp_path / "held.parquet")
    data = ("data.train=world:math:traces", "data.train_size=24", "data.val_size=6", "sft.epochs=1", "sft.batch_size=8")
    held = (f"eval.data={tmp_path}/held.parquet", "eval.samples=0")
    with_eval = run(tmp_path / "a", *data, *held, stage="sft")
    without = run(tmp_path / "b", *data, "eval.every=0", stage="sft")
    assert [r["loss/total"] for r in with_eval] == [r["loss/total"] for r in without]
    assert [r.get("eval/held/accuracy") is not None for r in with_eval] == [False, True, True]
    assert all(math.isfinite(r["eval/held/stderr"]) for r in with_eval[1:])
    assert not [key for r in without for key in r if key.startswith("eval/")]


def test_a_run_that_stops_early_saves_its_last_step(tmp_path: Path) -> None:
    data = ("data.train=world:math:traces", "data.train_size=24", "data.val_size=6", "sft.batch_size=8", "eval.every=0")
    early = ("sft.val_every=1", "sft.patience=1", "sft.epochs=4", "optim.lr=0.5", "checkpoint.every=100")
    records = run(tmp_path / "run", *data, *early, stage="sft")
    assert len(records) < 12
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step_*"))[-1]
    assert int(newest.name.removeprefix("step_")) == records[-1]["step"]
    assert json.loads((tmp_path / "run" / "done.json").read_text())["step"] == records[-1]["step"]


def test_a_best_metric_of_no_task_is_refused_before_the_first_step(tmp_path: Path) -> None:
    data = ("data.train=world:math", "data.train_size=8", "eval.data=world:math,dice")
    with pytest.raises(UserError, match=r"no such task; there is eval/math,dice/accuracy"):
        run(tmp_path / "run", *RL, *data, "checkpoint.best_metric=eval/nope/accuracy")
