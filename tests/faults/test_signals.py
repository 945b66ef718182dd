"""Item 29: SIGTERM and Ctrl-C in a rollout, an update and a save; the run saves, says so, and exits with 75."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fork_server import ForkServer, Request
from helpers.killing import outcome, stage_recipe
from seethink.core.exits import EXIT_RESUME
from seethink.runs.checkpoint import newest_checkpoint
from seethink.runs.metrics import read_metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


@pytest.fixture(scope="module")
def whole(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a GRPO run that was left alone."""
    recipe = stage_recipe(tmp_path_factory.mktemp("whole"), "run", "grpo", **{"log.tensorboard": True})
    ended = server.run(Request(recipe))
    assert ended.status == 0, ended.output
    return outcome(recipe.with_suffix(""))


def grpo(folder: Path, **overrides: Any) -> Path:
    return stage_recipe(folder, "run", "grpo", **{"log.tensorboard": True} | overrides)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("at", ["update 3", "saving step_000002", "logged 5"])
def test_29_the_step_is_finished_saved_and_gone_on_from(
    server: ForkServer, whole: dict[str, Any], tmp_path: Path, at: str, number: signal.Signals
) -> None:
    recipe = grpo(tmp_path)
    run = recipe.with_suffix("")
    ended = server.run(Request(recipe, at=at, number=number, slow_save=0.2))
    assert ended.status == EXIT_RESUME, ended.output
    assert f"{number.name}: stopped after step" in ended.output
    assert "Traceback" not in ended.output
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.step == read_metrics(run)[-1]["step"], "nothing that was done is lost"
    ended = server.run(Request(recipe, resume=True))
    assert ended.status == 0, ended.output
    found = outcome(run)
    # A checkpoint was made out of turn, so that others are kept.
    assert {k: v for k, v in found.items() if k != "checkpoints"} == {
        k: v for k, v in whole.items() if k != "checkpoints"
    }
    assert board_steps(run) == [1, 2, 3, 4, 5, 6, 7], "TensorBoard has no gap and no double step"


@pytest.mark.parametrize("grace", [20.0, 0.2], ids=["the step ends", "the step is left"])
def test_29_what_is_being_written_is_waited_for(
    server: ForkServer, whole: dict[str, Any], tmp_path: Path, grace: float
) -> None:
    """Asked while the checkpoint of step 4 is written beside step 5, which is then saved, or left."""
    recipe = grpo(tmp_path, **{"checkpoint.asynchronous": True, "checkpoint.grace_s": grace})
    run = recipe.with_suffix("")
    patch = "faults.test_signals:slow_update"
    ended = server.run(Request(recipe, at="update 5", number=signal.SIGTERM, slow_save=4.0, patch=patch))
    assert ended.status == EXIT_RESUME, ended.output
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.step == read_metrics(run)[-1]["step"] == (5 if grace > 1 else 4)
    assert not list((run / "checkpoints").glob(".*"))
    assert server.run(Request(recipe, resume=True)).status == 0
    found = outcome(run)
    assert {k: v for k, v in found.items() if k != "checkpoints"} == {
        k: v for k, v in whole.items() if k != "checkpoints"
    }


def slow_update() -> None:
    """Called in the run's process: the fifth update takes a second before it begins."""
    from seethink.train.policy import Policy

    forward = Policy.forward_backward

    def slowly(self: Any, *args: Any) -> Any:
        if self.steps_done == 4:
            for _ in range(10):
                time.sleep(0.1)
        return forward(self, *args)

    Policy.forward_backward = slowly  # type: ignore[method-assign]


def board_steps(run: Path) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return [event.step for event in events.Scalars("reward/mean")]


def test_29_killed_before_the_first_checkpoint_the_board_begins_again(server: ForkServer, tmp_path: Path) -> None:
    recipe = grpo(tmp_path, **{"checkpoint.every": 5, "algorithm.steps": 3})
    assert server.run(Request(recipe, at="update 3")).status == -signal.SIGKILL
    assert server.run(Request(recipe, resume=True)).status == 0
    assert board_steps(recipe.with_suffix("")) == [1, 2, 3]


def slow_rollout() -> None:
    """Called in the run's process: the third rollout takes a minute."""
    from seethink.generate.in_process.generator import InProcessGenerator

    generate = InProcessGenerator.generate

    def slowly(self: Any, prompts: Any, count: int, sampling: Any, seed: Any, **others: Any) -> Any:
        if seed[1:] == (2, 0):
            for _ in range(600):
                time.sleep(0.1)
        return generate(self, prompts, count, sampling, seed, **others)

    InProcessGenerator.generate = slowly  # type: ignore[method-assign]


def test_29_a_step_that_outlasts_the_grace_time_is_left_and_the_one_before_saved(
    server: ForkServer, whole: dict[str, Any], tmp_path: Path
) -> None:
    recipe = grpo(tmp_path, **{"checkpoint.grace_s": 0.3, "checkpoint.every": 4})
    run = recipe.with_suffix("")
    patch = "faults.test_signals:slow_rollout"
    ended = server.run(Request(recipe, at="logged 2", number=signal.SIGTERM, patch=patch))
    assert ended.status == EXIT_RESUME, ended.output
    assert ended.seconds < 45
    assert [r["step"] for r in read_metrics(run)] == [1, 2]
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.step == 2
    recipe = grpo(tmp_path, **{"checkpoint.every": 2})
    ended = server.run(Request(recipe, resume=True, allow=["checkpoint.every"]))
    assert ended.status == 0, ended.output
    found = outcome(run)
    # Parts are measured at checkpoints, which were at other steps.
    tokens = [key for key in whole if key.startswith("rollouts/") or key.endswith("model.safetensors")]
    assert len(tokens) == 8
    assert {key: found[key] for key in tokens} == {key: whole[key] for key in tokens}


def test_29_a_second_ctrl_c_stops_at_once_and_loses_nothing_saved(server: ForkServer, tmp_path: Path) -> None:
    recipe = grpo(tmp_path)
    run = recipe.with_suffix("")
    patch = "faults.test_signals:slow_rollout"
    at = "saved step_000002"
    ended = server.run(Request(recipe, at=at, later=1.0, again_after=1.0, number=signal.SIGINT, patch=patch))
    assert ended.status == 130, (ended.status, ended.output)
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.step == 2
    assert server.run(Request(recipe, resume=True)).status == 0
    assert json.loads((run / "done.json").read_text())["step"] == 7


def test_29_asked_in_the_last_step_the_run_is_done(server: ForkServer, tmp_path: Path) -> None:
    """Finished, so 0: there is nothing to resume. A pipeline goes no further (test_signals_pipeline.py)."""
    recipe = grpo(tmp_path)
    ended = server.run(Request(recipe, at="saving step_000007", number=signal.SIGTERM, slow_save=0.2))
    assert ended.status == 0, ended.output
    assert "finished just then" in ended.output
    assert (recipe.with_suffix("") / "done.json").exists()
    assert server.run(Request(recipe, resume=True)).status == 0


def test_29_workers_outlive_the_signals_of_the_group() -> None:
    """A terminal's Ctrl-C reaches the graders too; the step that is being finished needs them."""
    from seethink.rewards.grader.pool import Pool

    pool = Pool(workers=1, deadline=20)
    try:
        one = ["num", "1"]
        assert pool.equal(one, one)
        (pid,) = pool.pids()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert pool.equal(one, one)
        assert pool.pids() == [pid]
    finally:
        pool.close()
