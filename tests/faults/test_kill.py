"""Item 30: SIGKILL at random points, inside saving too; resumed, a run ends as if it had never been killed.

Compared are all metrics less the clock, the guard's records, entropies, sampled tokens and rewards (rollout files),
part changes, the final weights, optimizer and state by hash, and which checkpoints are kept. `-m full` takes twenty
points a stage; `python tests/faults/kill_table.py --points 20` prints them as a table.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fork_server import ForkServer, Request
from helpers.killing import SLOW_SAVE, STAGES, Kills, outcome, stage_recipe
from seethink.runs.metrics import read_metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


def stages() -> list[Any]:
    """LoRA needs peft."""
    without = importlib.util.find_spec("peft") is None
    return [pytest.param(s, marks=pytest.mark.skipif(without and s == "lora", reason="needs peft")) for s in STAGES]


def check(server: ForkServer, folder: Path, stage: str, points: range) -> None:
    kills = Kills(server, folder, stage)
    done = [kills.point(number) for number in points]
    assert all(point.exact for point in done), [p for p in done if not p.exact]


@pytest.mark.parametrize("stage", stages())
def test_30_killed_at_a_few_random_points(server: ForkServer, tmp_path: Path, stage: str) -> None:
    check(server, tmp_path, stage, range(2, 4))


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", stages())
def test_30_killed_at_twenty_random_points(server: ForkServer, tmp_path: Path, stage: str) -> None:
    check(server, tmp_path, stage, range(20))


def test_30_killed_inside_every_save_in_turn(server: ForkServer, tmp_path: Path) -> None:
    """One run, killed in each of its saves: every start gets one checkpoint further or does one save again."""
    kills = Kills(server, tmp_path, "grpo")
    recipe = stage_recipe(tmp_path, "again", "grpo")
    for number, step in enumerate((2, 4, 6, 7)):
        # Before anything is written, or when all is written but neither hashed nor renamed.
        at = f"saving step_{step:06d}" if number % 2 else f"syncing .step_{step:06d}.tmp"
        ended = server.run(Request(recipe, resume=number > 0, at=at, slow_save=SLOW_SAVE))
        assert ended.status == -9, ended.output
        names = sorted(p.name for p in (tmp_path / "again" / "checkpoints").glob("step_*"))
        assert f"step_{step:06d}" not in names, "killed before it was complete"
        # Let the save through, so that the next round is about the next one.
        ended = server.run(Request(recipe, resume=True, at=f"saved step_{step:06d}", slow_save=SLOW_SAVE))
        assert ended.status in (-9, 0), ended.output
    assert server.run(Request(recipe, resume=True)).status == 0
    assert outcome(tmp_path / "again") == kills.whole


def test_30_killed_in_a_step_while_the_checkpoint_before_is_being_written(server: ForkServer, tmp_path: Path) -> None:
    """The half-written one is no checkpoint, and the run ends as one that waited for its saves and was not killed."""
    recipe = stage_recipe(tmp_path, "whole", "beside", **{"checkpoint.keep": 9, "checkpoint.asynchronous": False})
    assert server.run(Request(recipe)).status == 0
    run = tmp_path / "killed"
    recipe = stage_recipe(tmp_path, "killed", "beside", **{"checkpoint.keep": 9})
    ended = server.run(Request(recipe, at="update 6", patch="faults.test_kill:hold_the_fourth"))
    assert (ended.status, ended.place) == (-9, "update 6"), ended.output
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"step_000002", ".step_000004.tmp"}
    assert [record["step"] for record in read_metrics(run)] == [1, 2, 3, 4, 5]
    assert server.run(Request(recipe, resume=True)).status == 0
    assert outcome(run) == outcome(tmp_path / "whole")
    for step in (4, 6):
        one, other = (tmp_path / name / "checkpoints" / f"step_{step:06d}" for name in ("whole", "killed"))
        assert (one / "manifest.json").read_bytes() == (other / "manifest.json").read_bytes()


def hold_the_fourth() -> None:
    """Called in the run's process: the checkpoint of step 4 takes a minute."""
    from seethink.runs import checkpoint

    write = checkpoint.write_manifest

    def slowly(folder: Path) -> None:
        if folder.name == ".step_000004.tmp":
            time.sleep(60)
        write(folder)

    checkpoint.write_manifest = slowly
