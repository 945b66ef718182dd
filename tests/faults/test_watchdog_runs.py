"""Watchdogs in real runs: one stops with an exit code of its own, and stopped, resumed or killed nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fork_server import ForkServer, Request
from helpers.killing import outcome, stage_recipe
from seethink.core.exits import EXIT_WATCHDOG
from seethink.runs.checkpoint import newest_checkpoint
from seethink.runs.metrics import read_metrics
from seethink.train.hooks.watchdogs import read_alarms

pytestmark = pytest.mark.slow

STEPS = 14
FIRST = 11
"""The first step that is judged: every response is cut off at 2 tokens."""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


def truncated(folder: Path, name: str, **overrides: Any) -> Path:
    keys = {"algorithm.steps": STEPS, "rollout.max_new_tokens": 2, "rollout.length_schedule": [], "blindness.every": 0}
    keys |= {"algorithm.dynamic_sampling": False, "algorithm.curriculum": []}
    return stage_recipe(folder, name, "grpo", **keys | overrides)


@pytest.fixture(scope="module")
def whole(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a run that was only warned."""
    recipe = truncated(tmp_path_factory.mktemp("whole"), "run")
    ended = server.run(Request(recipe))
    assert ended.status == 0, ended.output
    assert f"WATCHDOG truncation, step {FIRST}" in ended.output
    alarms = read_alarms(recipe.with_suffix(""))
    assert [(a["step"], a["name"], a["action"]) for a in alarms] == [(FIRST, "truncation", "warn")]
    return outcome(recipe.with_suffix(""))


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """Less the action, which is what differs, and checkpoints and part changes, of which there is one more."""
    alarms = [{k: v for k, v in record.items() if k != "action"} for record in found["watchdogs"]]
    last = {k: v for k, v in found.items() if k.endswith((f"step_{STEPS:06d}.jsonl", "model.safetensors"))}
    return {"metrics": found["metrics"], "alarms": alarms, "last": last}


def test_it_stops_saved_with_a_code_of_its_own_and_goes_on_if_told_to(
    server: ForkServer, whole: dict[str, Any], tmp_path: Path
) -> None:
    recipe = truncated(tmp_path, "run", **{"watchdogs.actions.truncation": "stop"})
    run = recipe.with_suffix("")
    ended = server.run(Request(recipe))
    assert ended.status == EXIT_WATCHDOG == 76, ended.output
    assert f"stopped by a watchdog after step {FIRST}, which is saved: truncation" in ended.output
    assert "Traceback" not in ended.output
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.step == read_metrics(run)[-1]["step"] == FIRST
    assert newest.state["watchdogs"]["truncation"]["troubled"] is True
    ended = server.run(Request(recipe, resume=True))
    assert ended.status == 0, ended.output
    assert [a["step"] for a in read_alarms(run)] == [FIRST], "once an episode, over the stop as well"
    assert numbers(outcome(run)) == numbers(whole)


def test_the_action_may_change_and_a_checkpoint_is_saved_out_of_turn(
    server: ForkServer, whole: dict[str, Any], tmp_path: Path
) -> None:
    recipe = truncated(tmp_path, "run", **{"watchdogs.action": "checkpoint"})
    run = recipe.with_suffix("")
    ended = server.run(Request(recipe, at=f"saved step_{FIRST:06d}"))
    assert ended.status == -9, ended.output
    assert (run / "checkpoints" / f"step_{FIRST:06d}").is_dir()
    text = recipe.read_text().replace('watchdogs.action = "checkpoint"', 'watchdogs.action = "off"')
    recipe.write_text(text)
    ended = server.run(Request(recipe, resume=True))
    assert ended.status == 0, ended.output
    assert numbers(outcome(run)) == numbers(whole)


def test_killed_before_the_alarm_was_saved_it_barks_again_and_once(
    server: ForkServer, whole: dict[str, Any], tmp_path: Path
) -> None:
    recipe = truncated(tmp_path, "run")
    run = recipe.with_suffix("")
    ended = server.run(Request(recipe, at=f"logged {FIRST}"))
    assert ended.status == -9, ended.output
    assert [a["step"] for a in read_alarms(run)] == [FIRST]
    with (run / "watchdogs.jsonl").open("a") as file:
        file.write(json.dumps({"step": FIRST})[:5])
    ended = server.run(Request(recipe, resume=True))
    assert ended.status == 0, ended.output
    assert outcome(run) == whole
