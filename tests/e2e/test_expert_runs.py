"""A mixture of experts through the stages with the loss that balances its experts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.families import picture, save_family
from seethink.config import make_recipe
from seethink.core.errors import UserError
from seethink.train.start import train

pytestmark = pytest.mark.slow


def run(home: Path, name: str, stage: str, family: str = "qwen3_vl_moe", **optim: float) -> list[dict[str, float]]:
    if not (home / family).exists():
        save_family(family, home / family)
        rows = []
        for i in range(8):
            picture(i).save(home / f"{i}.png")
            row = {"prompt": "what is the sum", "images": [f"{i}.png"], "answer": str(i)}
            rows.append(json.dumps(row | {"response": f"<think>so</think>{i}"}))
        (home / "train.jsonl").write_text("\n".join(rows))
    table: dict[str, Any] = {
        "name": name,
        "stage": stage,
        "model": str(home / family),
        "out": str(home / name),
        "data": {"train": str(home / "train.jsonl"), "val_size": 2},
        "optim": {"lr": 1e-3, **optim},
        "reward": {"function": "helpers.nano:always_correct" if stage == "sft" else "helpers.nano:likes_e"},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    if stage == "sft":
        table["sft"] = {"epochs": 1, "batch_size": 3, "val_every": 1}
    else:
        table["algorithm"] = {"steps": 2}
        table["rollout"] = {"prompts_per_step": 3, "group_size": 3, "max_new_tokens": 6}
    train(make_recipe(table, []))
    return [json.loads(line) for line in (home / name / "metrics.jsonl").read_text().splitlines()]


def test_stages(tmp_path: Path) -> None:
    """The loss is on top of the stage's own, and every step says how experts share the tokens."""
    plain, sft = run(tmp_path, "plain", "sft"), run(tmp_path, "sft", "sft", router_aux_coef=0.5)
    assert plain[0]["router/balancing_loss"] == pytest.approx(sft[0]["router/balancing_loss"], rel=1e-5)
    added = sft[0]["loss/total"] - plain[0]["loss/total"]
    assert added == pytest.approx(0.5 * sft[0]["router/balancing_loss"], rel=1e-4)
    grpo = run(tmp_path, "grpo", "grpo", router_aux_coef=0.5)
    assert all(step["mismatch_kl/max"] < 1e-6 for step in grpo)
    assert grpo[0]["loss/total"] - grpo[0]["loss/policy"] == pytest.approx(
        0.5 * grpo[0]["router/balancing_loss"], rel=1e-4
    )
    shared = run(tmp_path, "shared", "grpo")
    assert all(0 < step["router/max_share"] <= 0.5 for step in shared)


def test_dense_models_are_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"optim.router_aux_coef=0.5: the model \(qwen3_vl\) is no mixture of experts"):
        run(tmp_path, "dense", "sft", "qwen3_vl", router_aux_coef=0.5)
