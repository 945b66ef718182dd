"""Runs on data with bad rows: they are left out and written down, and the rest trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seethink.config import Recipe, make_recipe
from seethink.core.png import png_bytes
from seethink.data.quarantine import DataError
from seethink.train.start import train as train_stage
from seethink.world.make import world_samples

BAD = {3: "image_unreadable", 7: "image_outside_root", 11: "empty_gold", 13: "special_token", 17: "prompt_too_long"}
ROWS = 120


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEETHINK_CACHE", str(tmp_path / "cache"))


def write_rows(folder: Path) -> Path:
    """EasyR1's columns, five bad rows among them; the last line is no JSON."""
    lines = []
    for i, sample in enumerate(world_samples("world:math:traces", "train", ROWS, 0), start=1):
        (folder / f"{i}.png").write_bytes(png_bytes(sample.pictures()[0]))
        row: dict[str, Any] = {"problem": f"<image>{sample.question}", "answer": sample.answer, "images": [f"{i}.png"]}
        row |= {"choices": list(sample.choices), "response": sample.response}
        if i == 3:
            (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
        elif i == 7:
            row["images"] = ["../1.png"]
        elif i == 11:
            row["answer"] = ""
        elif i == 13:
            row["problem"] += "<|im_end|>"
        elif i == 17:
            row["problem"] += " again" * 400
        lines.append(json.dumps(row))
    path = folder / "rows.jsonl"
    path.write_text("\n".join([*lines, '{"problem": ']), encoding="utf-8")
    return path


def recipe(folder: Path, model: Path, stage: str, *overrides: str) -> Recipe:
    table: dict[str, Any] = {
        "name": "bad-data",
        "stage": stage,
        "model": str(model),
        "out": str(folder / stage),
        "data": {"train": str(write_rows(folder)), "max_prompt_tokens": 250},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    if stage == "sft":
        table["sft"] = {"epochs": 1, "batch_size": 60}
    else:
        table["rollout"] = {"prompts_per_step": 2, "group_size": 2, "max_new_tokens": 4}
        table["algorithm"] = {"steps": 1}
    return make_recipe(table, list(overrides))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_run_goes_on_without_its_bad_rows(
    tmp_path: Path, random_nano: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(tmp_path, random_nano, stage)
    train_stage(made)
    said = capsys.readouterr().out
    found = {p["row"]: p["reason"] for p in map(json.loads, (tmp_path / stage / "quarantine.jsonl").open())}
    wanted = {**BAD, ROWS + 1: "not_json"}
    if stage == "sft":
        del wanted[11]  # a trace without a gold answer can be imitated
    assert found == wanted
    assert f"{ROWS + 1} rows in EasyR1 columns (problem, answer, response, images, choices)" in said
    assert (tmp_path / stage / "data.sha256").is_file()
    # A finished stage aside, starting again measures no prompt again.
    measured = made.model_copy(update={"out": str(tmp_path / "again")})
    train_stage(measured)
    assert "prompts: 0 measured" in capsys.readouterr().out


def test_too_many_bad_rows_stop_before_the_first_step(tmp_path: Path, random_nano: Path) -> None:
    with pytest.raises(DataError, match=r"4 of 121 rows are bad, more than data\.max_bad_share = 0\.02 allows"):
        train_stage(recipe(tmp_path, random_nano, "grpo", "data.max_bad_share=0.02"))
    assert len((tmp_path / "grpo" / "quarantine.jsonl").read_text().splitlines()) == 4
    assert not (tmp_path / "grpo" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_resumed_run_refuses_changed_data(tmp_path: Path, random_nano: Path) -> None:
    made = recipe(tmp_path, random_nano, "grpo", "algorithm.steps=2", "checkpoint.every=1")
    train_stage(made)
    (tmp_path / "grpo" / "done.json").unlink()
    rows = Path(made.data.train).read_text().replace("larger", "smaller")
    Path(made.data.train).write_text(rows)
    with pytest.raises(DataError, match=r"cannot resume .* the data are not those that the run started with"):
        train_stage(made, resume=True)
