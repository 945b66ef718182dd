"""What a conversation with a tool leaves behind: its lines and crops on disk, on the report's page, and its metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt, Reply, RolloutGroup, Sample
from seethink.data.chat import Chat
from seethink.entropy.meter import EntropyMeter
from seethink.models.load import load_chat
from seethink.report import write_report
from seethink.report.html import embed
from seethink.report.load import load_run
from seethink.report.rollouts import collect
from seethink.rl.rollout import Episode
from seethink.runs.rollouts import store_rollouts
from seethink.studies.entropy.stored_rollouts import read_rollouts
from seethink.train.hooks.rollouts import tool_metrics

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load_chat("nano")


def talked(chat: Chat) -> RolloutGroup:
    """Three turns with two replies, the second of them to a bad call, beside a response of one turn."""
    ids = chat.response_ids("red red")
    crop = Image.new("RGB", (8, 6), (200, 0, 0))
    replies = [Reply(2, [5, 6], HOSTILE, (crop,)), Reply(3, [5], "error", failed=True)]
    pictures = (Image.new("RGB", (56, 56)),)
    several = Completion(ids, [0.0] * len(ids), [0.1] * len(ids), "red", False, 0, replies=replies)
    one = Completion(ids, [0.0] * len(ids), [0.1] * len(ids), "red", False, 0)
    for completion in (several, one):
        completion.reward = 0.0
    several.environment_reward = 0.5
    return RolloutGroup(Prompt(Sample("s", "what", pictures, "red"), [1, 2], {}), [several, one])


@pytest.fixture
def run(chat: Chat, tmp_path: Path) -> Path:
    meter = EntropyMeter(chat, ("Wait",), 3)
    store_rollouts(tmp_path / "rollouts" / "step_000001.jsonl", tmp_path, [talked(chat)], 1, meter)
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "tools", "stage": "grpo", "model": "nano"}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward/mean": 0.5}) + "\n")
    return tmp_path


def stored(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "rollouts" / "step_000001.jsonl").read_text())["completions"]
    return found


def test_replies_are_stored_with_their_pictures(run: Path) -> None:
    several, one = stored(run)
    assert [(r["at"], r["text"], r["failed"]) for r in several["replies"]] == [(2, HOSTILE, False), (3, "error", True)]
    (name,) = several["replies"][0]["images"]
    with Image.open(run / name) as crop:
        assert crop.size == (8, 6)
    assert "replies" not in one


def test_the_page_has_replies_and_pictures_escaped(run: Path) -> None:
    found = collect(load_run(run))
    several, one = found.groups[0]["completions"]
    assert [reply["at"] for reply in several["replies"]] == [2, 3]
    assert several["replies"][0]["text"] == "<script>alert(1)</script>␛[31m⟨U+202E⟩"
    assert several["replies"][0]["images"] == [1]
    assert "replies" not in one
    assert "<script>" not in embed(found.data())
    assert HOSTILE not in write_report(run).read_text()


def test_damaged_replies_are_shown_as_far_as_they_go(run: Path) -> None:
    path = run / "rollouts" / "step_000001.jsonl"
    row = json.loads(path.read_text())
    row["completions"][0]["replies"] = [3, {"at": "x", "text": None, "images": ["../../etc/passwd"], "failed": 1}]
    path.write_text(json.dumps(row) + "\n")
    (reply,) = collect(load_run(run)).groups[0]["completions"][0]["replies"]
    assert reply == {"at": 0, "text": "", "images": ["image path leads outside the run and was not opened"],
                     "failed": False}  # fmt: skip


def test_conversations_are_not_scored_again_as_if_they_were_responses(run: Path, chat: Chat) -> None:
    with pytest.raises(UserError, match=r"line 1 .* a conversation with a tool"):
        read_rollouts(run, chat)


def test_calls_are_counted(chat: Chat) -> None:
    found = tool_metrics(Episode([talked(chat)], 16))
    assert found == {
        "tools/calls_mean": 1.0, "tools/called_share": 0.5, "tools/failed_share": 0.5, "reward/environment": 0.25,
    }  # fmt: skip
    silent = Episode([RolloutGroup(talked(chat).prompt, talked(chat).completions[1:])], 16)
    assert math.isnan(tool_metrics(silent)["tools/failed_share"])
