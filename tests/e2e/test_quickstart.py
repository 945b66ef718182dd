"""The whole pipeline by its command, shrunk to seconds: every stage trains, is evaluated and is in the report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import forked
from helpers.command_line import run_command
from helpers.same_run import assert_same_run

TINY = [
    "data.train_size=40",
    "data.val_size=12",
    "sft.epochs=1",
    "sft.val_every=2",
    "rollout.prompts_per_step=3",
    "rollout.group_size=3",
    "rollout.max_new_tokens=24",
    "algorithm.steps=2",
    "eval.size=2",
    "eval.samples=1",
    "eval.max_new_tokens=24",
    "log.rollouts_every=1",
    "cluster.trainers=1",
]
UNTIMED = ("time/", "throughput/")


def quickstart(out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The first world's, which takes least time, unless the overrides say otherwise."""
    words = ["--world", "1", "--out", str(out), *TINY, *overrides]
    command = [sys.executable, "-m", "seethink.cli.main", "quickstart", *words]
    return forked.run(command)


def records(stage: Path) -> list[dict[str, float]]:
    lines = (stage / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(UNTIMED)} for line in lines]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quickstart") / "run"
    result = run_command("quickstart", "--world", "1", "--out", str(out), *TINY)
    assert result.returncode == 0, result.stderr
    assert "report.html" in result.stdout
    assert "cold start" in result.stdout
    return out


def test_every_stage_is_trained_evaluated_and_reported(run: Path) -> None:
    for stage in ("coldstart", "grpo", "connector"):
        assert records(run / stage)
        assert (run / stage / "done.json").exists()
    for stage in ("base", "coldstart", "grpo", "connector"):
        scores = json.loads((run / stage / "eval.json").read_text())["scores"]
        assert {s["domain"] for s in scores} == {"math", "charts", "dice", "shapes", "clocks", "cells"}
        assert all(s["n"] == 2 for s in scores if s["difficulty"] == "all")
    page = (run / "report.html").read_text()
    assert "connector" in page
    assert "data:image/" in page


def test_stages_hand_their_weights_on_and_freeze_what_they_should(run: Path) -> None:
    recipe = json.loads((run / "grpo" / "recipe.json").read_text())
    assert recipe["model"] == str(run / "coldstart" / "best")
    last = json.loads((run / "connector" / "parts.json").read_text())["change"]
    assert last["vision"] == last["language"] == 0.0
    assert last["connector"] > 0.0


def test_a_second_call_finds_everything_done(run: Path) -> None:
    before = (run / "grpo" / "metrics.jsonl").read_bytes()
    result = quickstart(run)
    assert result.returncode == 0, result.stderr
    assert (run / "grpo" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rl:algorithm.steps=3"], "for no stage of the quickstart.*coldstart, grpo, connector"),
        (["grpo:=3"], "for no stage of the quickstart"),
        (["eval.samples=2"], "base/eval.json is of another seed or other .eval. settings"),
        (["optim.lrr=2"], "on the command line: unknown key 'optim.lrr'"),
    ],
)
def test_what_would_be_ignored_is_refused(run: Path, words: list[str], said: str) -> None:
    result = run_command("quickstart", "--world", "1", "--out", str(run), *TINY, *words)
    assert result.returncode == 2
    assert re.search(said, result.stderr)


def test_two_processes_train_where_there_are_cores_for_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And sample what one process sampled."""
    monkeypatch.setattr("seethink.studies.quickstart.available_cores", lambda: 2)
    out = tmp_path / "two"
    result = run_command("quickstart", "--world", "1", "--out", str(out), *TINY[:-1])
    assert result.returncode == 0, result.stderr
    assert json.loads((out / "grpo" / "recipe.json").read_text())["cluster"]["trainers"] == 2
    assert " 2 x " in json.loads((out / "pipeline.json").read_text())["machine"]
    assert_same_run(out / "grpo", run / "grpo")


def test_the_same_seed_gives_the_same_metrics(run: Path, tmp_path: Path) -> None:
    assert quickstart(tmp_path / "again").returncode == 0
    for stage in ("coldstart", "grpo", "connector"):
        assert records(tmp_path / "again" / stage) == records(run / stage)
    for stage in ("base", "coldstart", "grpo", "connector"):
        ours, theirs = (json.loads((r / stage / "eval.json").read_text())["scores"] for r in (tmp_path / "again", run))
        assert ours == theirs


def test_the_pipeline_of_the_second_world_tunes_its_connector_on_its_own_verified_answers(tmp_path: Path) -> None:
    out = tmp_path / "second"
    # Enough of a cold start that the policy answers some questions rightly in the format that is trained on.
    learns = ["coldstart:data.train_size=640", "coldstart:sft.val_every=10", "rollout.max_new_tokens=60"]
    for called in (out, Path(os.path.relpath(out))):
        result = quickstart(called, "--world", "2", *learns)
        assert result.returncode == 0, result.stderr
    assert {"base", "coldstart", "grpo", "connector", "connector-data"} <= {folder.name for folder in out.iterdir()}
    rows = [json.loads(line) for line in (out / "connector-data" / "data" / "train.jsonl").open()]
    assert 0 < len(rows) <= 80
    assert all("<think>" in json.dumps(row) for row in rows)
    assert len(records(out / "connector")) > 0
    recipe = json.loads((out / "connector" / "recipe.json").read_text())
    assert recipe["data"]["train"] == str(out / "connector-data" / "data" / "train.jsonl")
    assert recipe["model"].startswith(str(out / "grpo"))
