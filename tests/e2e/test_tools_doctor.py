"""`seethink doctor` of a recipe with a tool: its tokens are counted, and a model that cannot take it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.doctoring import good_rows, write_rows
from helpers.families import save_family
from helpers.killing import write_recipe
from seethink.doctor.check import Status
from seethink.doctor.run import diagnose


def examined(folder: Path, model: str, environment: str) -> dict[str, tuple[Status, str]]:
    data = write_rows(folder / "rows.jsonl", good_rows(folder, 4))
    keys = {"stage": "grpo", "data.train": str(data), "rollout.environment": environment, "model": model}
    recipe = write_recipe(folder, "tools", **keys | {"optim.shared_prompt": False, "rollout.max_new_tokens": 16})
    report = diagnose(recipe, [], step=environment == "calculator")
    return {f"{check.section} {check.name}": (check.status, check.found) for check in report.checks}


@pytest.mark.slow
def test_the_tokens_of_a_tool_are_counted(tmp_path: Path) -> None:
    found = examined(tmp_path, "nano", "calculator")
    status, said = found["tools environment"]
    assert status is Status.PASS
    assert "its instructions take" in said
    assert "4 turns" in said
    assert found["step rollout"][0] is Status.PASS


@pytest.mark.slow
def test_a_model_of_one_image_cannot_zoom(tmp_path: Path) -> None:
    status, said = examined(tmp_path, str(save_family("instructblip", tmp_path / "model")), "zoom")["tools environment"]
    assert status is Status.FAIL
    assert "takes at most 1" in said
