"""Rollouts as tables: rows of stored records, and what TensorBoard shows of a run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.nano import nano_recipe
from seethink.runs.rollouts import rollouts_file
from seethink.runs.tables import CELL, COLUMNS, HEIGHT, markdown, read_table
from seethink.train.hooks.metrics import MetricsLog
from seethink.train.step import StepResult

COMPLETION = {
    "text": "7", "tokens": ["look", " closer", "<call>", "it is", " 7"], "reward": 1.0, "advantage": 0.5,
    "verdict": "correct", "extracted": "7",
}  # fmt: skip


def write_rollouts(folder: Path, step: int, **changes: Any) -> None:
    """A group of two completions: one that used a tool, and one whose grading failed."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), "red").save(folder / "images/a.png")
    Image.new("RGB", (1000, 1024), "blue").save(folder / "images/b.png")
    reply = {"at": 3, "text": " a crop ", "images": ["images/b.png"], "failed": False}
    failed = {"text": "a | b\nc", "reward": None, "verdict": None, "extracted": None}
    completions = [COMPLETION | {"replies": [reply]}, COMPLETION | failed]
    group = {"step": step, "question": "what?", "images": ["images/a.png"], "answer": 7, "completions": completions}
    path = rollouts_file(folder, step)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(group | changes) + "\n")


def test_a_row_has_the_whole_conversation_and_its_pictures_side_by_side(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 1)
    first, second = read_table(rollouts_file(tmp_path, 1), tmp_path)
    assert first.response == "look closer<call>\n[a crop]\nit is 7"
    assert first.cells() == ["what?", first.response, "7", "7", "correct", 1.0, 0.5]
    assert first.picture is not None
    assert first.picture.size == (40 + 250, HEIGHT)
    assert first.picture.getpixel((10, 10)) == (255, 0, 0)
    assert first.picture.getpixel((100, 200)) == (0, 0, 255)
    assert second.cells() == ["what?", "a | b\nc", "7", "", "", None, 0.5]
    assert second.picture is not None
    assert second.picture.size == (40, 20)


def test_a_cell_is_one_line_and_bounded(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 1, question="x" * (CELL + 9), images=[])
    rows = read_table(rollouts_file(tmp_path, 1), tmp_path)
    lines = markdown(rows).split("\n")
    assert len(lines) == 4
    assert lines[0].count("|") == len(COLUMNS) + 1
    assert lines[3].startswith("|  | " + "x" * CELL + " | a \\| b c | 7 |  |  |  | 0.5 |")


def log_of(folder: Path, **log: Any) -> MetricsLog:
    recipe = nano_recipe(out=str(folder))
    return MetricsLog(folder, recipe.model_copy(update={"log": recipe.log.model_copy(update=log)}), step=0)


def result() -> StepResult:
    return StepResult({"reward/mean": 0.5}, None)


def test_tensorboard_has_the_table_and_the_pictures_of_stored_steps(tmp_path: Path) -> None:
    written = log_of(tmp_path, tensorboard=True, rollout_tables=True)
    write_rollouts(tmp_path, 1)
    for step in (1, 2):
        written.measure(step, result())
    written.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (text,) = board.Tensors("rollouts/text_summary")
    assert text.step == 1
    assert b"| rollouts/1 | what? | look closer<call> [a crop] it is 7 | 7 |" in text.tensor_proto.string_val[0]
    (picture,) = board.Images("rollouts/1")
    assert (picture.width, picture.height, picture.step) == (290, HEIGHT, 1)
    assert np.array_equal([s.step for s in board.Scalars("reward/mean")], [1, 2])


@pytest.mark.parametrize("log", [{"rollout_tables": False}, {"rollout_tables": True, "tensorboard": False}], ids=str)
def test_there_is_none_unless_the_recipe_asks_and_something_takes_it(tmp_path: Path, log: dict[str, Any]) -> None:
    written = log_of(tmp_path, **{"tensorboard": True} | log)
    write_rollouts(tmp_path, 1, images=["images/none.png"])  # which would be said to be missing
    written.measure(1, result())
    written.close()
    if (tmp_path / "tensorboard").exists():
        assert EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["images"] == []


def test_a_picture_that_is_gone_costs_the_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = log_of(tmp_path, tensorboard=True, rollout_tables=True)
    write_rollouts(tmp_path, 1, images=["images/none.png"])
    assert written.measure(1, result()).keys() == {"time/step_s"}
    written.close()
    assert "no table of the rollouts of step 1" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1
