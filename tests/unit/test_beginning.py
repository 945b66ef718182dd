"""Where a run begins: a finished run goes on where a change gives it more to train, and says why where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import nano_recipe
from seethink.config import CheckpointConfig
from seethink.core.errors import UserError
from seethink.doctor.check import Report, Status
from seethink.doctor.folder import check_out, check_selection
from seethink.runs.checkpoint import Checkpoint
from seethink.train.beginning import DATA, Beginning, too_few_to_select

WAITED = {"stopping": {"best": 1.0, "best_step": 2, "waited": 3}}


def finished(folder: Path, stage: str, **state: Any) -> Beginning:
    """A run that ended after step 6, with patience 3."""
    recipe = nano_recipe("m", "sft.patience=3", stage=stage, out=str(folder))
    checkpoint = Checkpoint(folder / "checkpoints/step_000006", 6, {"step": 6, **state})
    return Beginning(recipe, checkpoint, finished=folder / "best")


@pytest.mark.parametrize("stage", ["sft", "grpo", "ppo"])
def test_a_finished_run_is_left_as_it_is(tmp_path: Path, stage: str) -> None:
    """Whatever its steps: an SFT run may have stopped early."""
    for last_step in (4, 6, 9):
        assert finished(tmp_path, stage).finished_before(last_step) == tmp_path / "best"


@pytest.mark.parametrize(
    ("stage", "changed", "last_step", "state", "said"),
    [
        ("sft", ("sft.epochs",), 9, {}, None),
        ("sft", ("sft.patience",), 9, {"stopping": WAITED["stopping"] | {"waited": 2}}, None),
        ("grpo", ("algorithm.steps",), 7, {}, None),
        ("ppo", ("algorithm.steps", "optim.lr"), 8, {}, None),
        ("grpo", ("algorithm.steps",), 7, WAITED, None),
        (
            "sft",
            ("optim.lr",),
            6,
            {},
            r"optim\.lr nothing is left.*done 6 steps, .*do 6; raise sft\.epochs",
        ),
        ("grpo", ("optim.lr", "seed"), 6, {}, r"optim\.lr, seed nothing.*raise algorithm\.steps too"),
        ("ppo", ("algorithm.steps",), 5, {}, r"has done 6 steps, and is to do 5"),
        ("sft", ("sft.epochs",), 9, WAITED, r"stopped early, after sft\.patience=3 .*--allow sft\.patience"),
    ],
)
def test_a_change_that_was_allowed(
    tmp_path: Path, stage: str, changed: tuple[str, ...], last_step: int, state: dict[str, Any], said: str | None
) -> None:
    beginning = replace(finished(tmp_path, stage, **state), changed=changed)
    if said is None:
        assert beginning.finished_before(last_step) is None
    else:
        with pytest.raises(UserError, match=said):
            beginning.finished_before(last_step)


def test_other_data_that_were_allowed(tmp_path: Path) -> None:
    """They are noticed by their fingerprint; where they change nothing, the one of before comes back."""
    beginning = replace(finished(tmp_path, "sft"), data_before="a")
    (tmp_path / DATA).write_text("a\n")
    assert beginning.finished_before(9) == tmp_path / "best"
    (tmp_path / DATA).write_text("b\n")
    assert beginning.finished_before(9) is None
    with pytest.raises(UserError, match="with other data nothing is left to train"):
        beginning.finished_before(6)
    assert (tmp_path / DATA).read_text() == "a\n"


def test_a_run_that_is_not_finished_goes_on(tmp_path: Path) -> None:
    beginning = finished(tmp_path, "grpo")
    assert replace(beginning, finished=None, changed=("optim.lr",)).finished_before(6) is None
    assert replace(beginning, finished=None, checkpoint=None).finished_before(6) is None


@pytest.mark.parametrize(
    ("keys", "last_step", "advice"),
    [
        ({}, 100, None),
        ({}, None, None),
        ({"keep": 1}, 100, "checkpoint.keep=2"),
        ({"keep": 1}, None, "checkpoint.keep=2"),
        ({"keep": 1, "keep_best": 2}, 100, None),
        ({"every": 50}, 50, "lower checkpoint.every=50"),
        ({"every": 50}, 51, None),
        ({"every": 1}, 1, "lower checkpoint.every=1"),
    ],
)
def test_too_few_checkpoints_to_choose_from(keys: dict[str, int], last_step: int | None, advice: str | None) -> None:
    found = too_few_to_select(CheckpointConfig(**keys), last_step)
    assert found is None if advice is None else advice in (found or "")


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (("checkpoint.keep=1",), True),
        (("algorithm.steps=50", "checkpoint.every=50"), True),
        (("algorithm.steps=51", "checkpoint.every=50"), False),
        (("checkpoint.keep=1", "checkpoint.keep_best=2", "checkpoint.best_metric=reward/mean"), False),
        ((), False),
    ],
)
def test_the_doctor_says_so_before_the_run(words: tuple[str, ...], warned: bool) -> None:
    report = Report()
    check_selection(report, nano_recipe("m", *words, stage="grpo"))
    assert [(c.section, c.name, c.status) for c in report.checks] == [("out", "selection", Status.WARN)] * warned
    assert all("needs two" in check.found and check.advice for check in report.checks)


def test_the_doctor_names_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    report = Report()
    check_out(report, nano_recipe("m", out=str(tmp_path)))
    (check,) = report.checks
    assert check.status is Status.FAIL
    assert "best in the way" in check.found
