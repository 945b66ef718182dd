"""What a model's thinking is worth: accuracy by level, reasons of mistakes and P(Wait), from graded completions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from helpers.command_line import run_command
from seethink.core.types import Completion, Grade, Verdict
from seethink.studies.examination import accuracy_table, examined, mistake_table
from seethink.world.v2.items import Item, Key, make_item


def items(domain: str, level: int = 3) -> list[Item]:
    return [make_item(Key(0, "eval", "test", domain, level, number)) for number in range(8)]


def completion(text: str, right: bool | None) -> Completion:
    verdict = Verdict.ERROR if right is None else Verdict.CORRECT if right else Verdict.WRONG
    return Completion([1], [0.0], [0.0], text, False, 0, grade=Grade(verdict, "x", ""))


def test_a_teacher_is_examined() -> None:
    made = [*items("search"), *items("looks", 2), *items("search", 4)]
    search, looks, everything = examined([(item, [completion(item.trace, True)] * 2) for item in made])
    assert (search.domain, looks.domain, everything.domain) == ("search", "looks", "all")
    assert (search.responses, looks.responses, everything.responses) == (32, 16, 48)
    assert search.accuracy.value == 1
    assert set(search.by_level) == {"3", "4"}
    assert search.wait_after_wrong.value == looks.wait_after_wrong.value == 1
    assert sum(search.mistakes.values()) == 0


def test_mistakes_are_counted_by_reason_and_ungraded_responses_left_out() -> None:
    made = items("sums")
    wrong = [completion(item.trace.replace("I see", "I see red 77,"), False) for item in made[:4]]
    cut = [completion("<think>I see", False) for _ in made[4:6]]
    good = [completion(item.trace, True) for item in made[6:7]]
    groups = [[one] for one in (*wrong, *cut, *good, completion(made[7].trace, None))]
    sums, everything = examined(zip(made, groups, strict=True))
    assert sums.responses == 7
    assert sums.mistakes["misread"] == pytest.approx(4 / 7)
    assert sums.mistakes["malformed"] == pytest.approx(2 / 7)
    assert sums.accuracy.value == pytest.approx(1 / 7)
    assert everything.mistakes == sums.mistakes
    assert math.isnan(sums.wait_after_wrong.value) or sums.wait_after_wrong.value == 0
    assert accuracy_table([sums]).row_count == mistake_table([sums]).row_count == 1


@pytest.mark.parametrize("data", ["world:math", "world2:dice:probes"])
def test_other_data_are_refused(data: str) -> None:
    finished = run_command("world", "examine", "nano", "--data", data)
    assert finished.returncode == 2
    assert "are not questions about the second world: give world2:DOMAINS" in finished.stderr


@pytest.mark.slow
def test_a_model_is_examined_by_a_command(tmp_path: Path) -> None:
    words = ["world", "examine", "nano", "--data", "world2:dice,search?levels=1-2", "--size", "4", "--out", "said.json"]
    finished = run_command(*words, "--max-new-tokens", "24", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    stored = json.loads((tmp_path / "said.json").read_text())
    assert [one["domain"] for one in stored["examinations"]] == ["dice", "search", "all"]
    assert stored["mode"] == "greedy"
    assert "Wrong responses by reason" in finished.stdout
