"""The proof of parts on a real run: text alone moves no image part, and that is no fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.training import make_policy
from seethink.config import make_recipe
from seethink.models.load import load_model
from seethink.models.trainable import FrozenPartMovedError
from seethink.train.start import train

ROWS = [{"prompt": f"What is {i} plus 1?", "response": f"<think>{i}+1={i + 1}.</think>{i + 1}"} for i in range(8)]


def recipe(folder: Path, **parts: object) -> object:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row | {"answer": str(i + 1)}) + "\n" for i, row in enumerate(ROWS)))
    sft = {"epochs": 1, "batch_size": 4, "val_every": 1}
    source = {"train": str(data), "val": str(data)}
    return make_recipe(
        {"name": "text", "stage": "sft", "out": str(folder / "run"), "data": source, "sft": sft, "parts": parts}
    )


def test_a_run_on_text_alone_is_allowed(tmp_path: Path) -> None:
    train(recipe(tmp_path))
    last = json.loads((tmp_path / "run" / "parts.json").read_text())["change"]
    assert last["vision"] == last["connector"] == 0.0
    assert last["language"] > 0.0


def test_a_part_that_learns_but_stands_still_is_found(tmp_path: Path) -> None:
    policy = make_policy(load_model("nano"), recipe(tmp_path), 1)
    assert policy.proof.check(updated=False)
    with pytest.raises(FrozenPartMovedError, match="did not move"):
        policy.proof.check()


def test_a_frozen_part_that_moves_is_found(tmp_path: Path) -> None:
    policy = make_policy(load_model("nano"), recipe(tmp_path, train=["language"]), 1)
    next(p for n, p in policy.model.named_parameters() if "vision_tower" in n).data.add_(1e-3)
    with pytest.raises(FrozenPartMovedError, match="vision is frozen"):
        policy.proof.check(updated=False)
