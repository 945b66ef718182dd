"""`seethink launch`: the same run on 1, 2 and 3 processes, resumed on another number, killed, stopped, refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run_command
from helpers.killing import outcome
from helpers.same_run import assert_same_run, numbers, short
from helpers.ranks import launch, start_launch, train_on_ranks
from seethink.config import load_recipe
from seethink.core.errors import UserError
from seethink.train.start import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GRPO run on two ranks that nothing interrupted."""
    folder = tmp_path_factory.mktemp("ranks")
    train_on_ranks(2, short(folder, "two", "grpo"))
    return folder / "two"


@pytest.mark.parametrize(
    ("stage", "ranks", "shard"), [("sft", 2, "none"), ("ppo", 3, "zero2"), ("lora", 2, "zero2"), ("grpo", 2, "zero3")]
)
def test_several_processes_make_the_run_of_one(tmp_path: Path, stage: str, ranks: int, shard: str) -> None:
    train(load_recipe(short(tmp_path, "whole", stage)))
    train_on_ranks(ranks, short(tmp_path, "shared", stage, **{"cluster.shard": shard}))
    assert_same_run(tmp_path / "shared", tmp_path / "whole")


@pytest.mark.parametrize("ranks", [1, 3])
def test_it_resumes_on_another_number_of_processes(tmp_path: Path, on_two: Path, ranks: int) -> None:
    """2 -> 1, 2 -> 3: the tokens afterwards are those of the run that went on with 2."""
    run = tmp_path / "two"
    shutil.copytree(on_two, run)
    recipe = short(tmp_path, run.name, "grpo")
    (run / "done.json").unlink()
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    shutil.rmtree(newest)
    if ranks == 1:
        train(load_recipe(recipe), resume=True)
    else:
        train_on_ranks(ranks, recipe, resume=True)
    assert newest.exists()
    assert_same_run(run, on_two)


def test_a_killed_rank_costs_nothing(tmp_path: Path, on_two: Path) -> None:
    """The other one ends, and the run goes on from its newest checkpoint to the very same end."""
    process = start_launch(short(tmp_path, "two", "grpo"), trainers=2)
    run = tmp_path / "two"
    _wait_for(lambda: (run / "checkpoints" / "step_000002").exists())
    os.kill(_ranks_of(process.pid)[1], signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert outcome(run) == outcome(on_two)


def test_a_stopped_run_says_75_and_goes_on(tmp_path: Path, on_two: Path) -> None:
    recipe = short(tmp_path, "two", "grpo")
    process = start_launch(recipe, trainers=2)
    _wait_for(lambda: len(numbers(tmp_path / "two")) >= 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    assert not (tmp_path / "two" / "done.json").exists()
    train_on_ranks(2, recipe, resume=True)
    assert outcome(tmp_path / "two") == outcome(on_two)


def test_a_mistake_is_said_once_and_not_tried_again(tmp_path: Path) -> None:
    recipe = short(tmp_path, "wrong", "grpo", **{"data.train": "nothing.jsonl"})
    done = launch(recipe, trainers=2)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "nothing.jsonl" in done.stderr
    assert "restart" not in done.stdout


def test_train_sends_several_trainers_to_launch(tmp_path: Path) -> None:
    recipe = short(tmp_path, "two", "grpo", **{"cluster.trainers": 2})
    refused = run_command("train", str(recipe))
    assert refused.returncode == 2
    assert "seethink launch" in refused.stderr


def _wait_for(ready: Any, timeout: float = 120.0) -> None:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError


def _ranks_of(launcher: int) -> list[int]:
    """The launcher's processes, in the order of ranks."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True, check=True)
    return sorted(int(word) for word in children.stdout.split())


def test_ray_is_asked_for(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("Ray is in this environment")
    refused = run_command("launch", str(short(tmp_path, "placed", "grpo")), "--ray", "local")
    assert refused.returncode == 2
    assert "pip install 'seethink[ray]'" in refused.stderr


def test_one_process_is_not_taken_for_two(tmp_path: Path) -> None:
    recipe = load_recipe(short(tmp_path, "one", "grpo", **{"cluster.trainers": 2}))
    with pytest.raises(UserError, match="cluster.trainers is 2: start the recipe with `seethink launch`"):
        train(recipe)
    assert not (tmp_path / "one").exists()
