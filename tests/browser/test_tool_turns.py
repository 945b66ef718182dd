"""Turns with a tool in the viewer: replies stand between the model's tokens, pictures and all, and nothing acts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make_run import HOSTILE

from seethink.report import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_replies_stand_between_the_turns(visit: Any, report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "rollouts").mkdir(parents=True)
    (folder / "images").mkdir()
    picture = next((report.parent / "grpo" / "images").glob("*.png"))
    (folder / "images" / "crop.png").write_bytes(picture.read_bytes())
    said = [
        {"at": 2, "text": " ".join(HOSTILE), "images": ["images/crop.png"], "failed": False},
        {"at": 4, "text": "error", "images": [], "failed": True},
    ]
    one = {"text": "c d", "tokens": ["a", "b", "c", "d"], "entropies": [0.1] * 4, "verdict": "wrong", "replies": said}
    group = {"step": 1, "id": "x", "question": "?", "answer": "1", "images": [], "completions": [one]}
    (folder / "rollouts" / "step_000001.jsonl").write_text(json.dumps(group) + "\n")
    (folder / "recipe.json").write_text(json.dumps({"name": "tools", "stage": "grpo"}))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward/mean": 0.0}) + "\n")

    shown = visit(write_report(folder))
    kinds = shown.page.eval_on_selector_all("#v-completions .text > *", "(all) => all.map((one) => one.className)")
    assert [kind for kind in kinds if kind.startswith("reply")] == ["reply", "reply failed"]
    assert [kind.startswith("reply") for kind in kinds] == [False, False, True, False, False, True]
    assert HOSTILE[0] in shown.text(".reply p")
    assert shown.page.eval_on_selector(".reply img", "(one) => one.complete && one.naturalWidth > 0")
    assert "2 tool calls" in shown.text("#v-completions header")
