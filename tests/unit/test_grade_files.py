"""Files of cases: a verdict for every line, and rates where the lines say what to expect."""

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from seethink.rewards.grade_files import grade_file, render

ROWS = [
    {"id": "a", "gold": "4", "prediction": "\\boxed{4}", "answer_type": "number", "expected": True},
    {"id": "b", "gold": "4", "prediction": "\\boxed{5}", "answer_type": "number", "expected": True},
    {"id": "c", "gold": "B", "choices": ["x", "y"], "prediction": "Answer: B", "answer_type": "mc", "expected": False},
    {"id": "d", "gold": "", "prediction": "4"},
    {"id": "e", "gold": "C", "choices": ["x", "y"], "prediction": "C"},
    {"id": "f", "gold": "4", "prediction": None},
    {"id": "g", "gold": 4, "prediction": "four [red]\x1b[31m"},
]


def graded(tmp_path: Path) -> tuple:
    cases, out = tmp_path / "cases.jsonl", tmp_path / "verdicts.jsonl"
    cases.write_text("\n".join(json.dumps(row) for row in ROWS) + "\nnot json\n[1]\n")
    return grade_file(cases, out), [json.loads(line) for line in out.open()]


def test_every_line_gets_a_verdict(tmp_path: Path) -> None:
    _, rows = graded(tmp_path)
    assert [row["verdict"] for row in rows] == ["correct", "wrong", "correct", *["error"] * 3, "wrong", *["error"] * 2]
    assert [row["id"] for row in rows][-2:] == ["line 8", "line 9"]
    assert all(row["reason"].startswith(f"line {n}: ") for n, row in enumerate(rows, 1) if row["verdict"] == "error")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"answer_type": ["number"]}, "answer_type: expected a text"),
        ({"answer_type": {"a": 1}}, "answer_type: expected a text"),
        ({"gold": math.inf}, "gold answer: expected text or a number, found inf"),
        ({"gold": -math.inf}, "gold answer: expected text or a number, found -inf"),
        ({"gold": {"a": 1}}, "gold: expected a text, a number or a list"),
        ({"gold": []}, None),
        ({"choices": "A. red"}, "choices: expected a list"),
        ({"choices": [1, 2]}, "choices: expected a list"),
        ({"prediction": ["4"]}, "prediction: expected text, found list"),
    ],
)
def test_a_line_with_a_wrong_field_is_an_error_alone(fields: dict, said: str | None, tmp_path: Path) -> None:
    cases, out = tmp_path / "cases.jsonl", tmp_path / "verdicts.jsonl"
    good = {"gold": "4", "prediction": "4", "problem": "What is 2 + 2?"}
    cases.write_text("".join(json.dumps(row) + "\n" for row in (good, good | fields, good)))
    grade_file(cases, out)
    rows = [json.loads(line) for line in out.open()]
    assert [rows[0]["verdict"], rows[2]["verdict"]] == ["correct", "correct"]
    if said is not None:
        assert rows[1]["verdict"] == "error"
        assert said in rows[1]["reason"]


def test_a_list_of_golds_allows_each(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    rows = [{"gold": ["4", "four apples"], "prediction": said} for said in ("4", "Four apples.", "5")]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert grade_file(cases).verdicts == {"correct": 2, "wrong": 1}


def test_only_its_own_verdicts_are_overwritten(tmp_path: Path) -> None:
    cases, out = tmp_path / "cases.jsonl", tmp_path / "out.jsonl"
    cases.write_text(json.dumps(ROWS[0]) + "\n")
    link = tmp_path / "link.jsonl"
    link.symlink_to(cases)
    for taken in (cases, link):
        with pytest.raises(ValueError, match="the file of cases itself"):
            grade_file(cases, taken)
    for text in ("my notes\n", '{"id": 1}\n', "[]\n", "{}"):
        out.write_text(text)
        with pytest.raises(ValueError, match="is not a file of verdicts"):
            grade_file(cases, out)
        assert out.read_text() == text
    out.unlink()
    for _ in range(2):
        grade_file(cases, out)
    assert len(out.read_text().splitlines()) == 1


def test_rates_and_misses(tmp_path: Path) -> None:
    summary, _ = graded(tmp_path)
    assert (summary.overall.right, summary.overall.total) == (1, 3)
    assert summary.by_type["mc"].false_positive_rate == 1.0
    assert summary.by_type["number"].false_negative_rate == 0.5
    assert [miss["id"] for miss in summary.misses] == ["b", "c"]


def test_the_rendered_summary_shows_text_literally(tmp_path: Path) -> None:
    summary, _ = graded(tmp_path)
    console = Console(record=True, width=120)
    console.print(render(summary))
    text = console.export_text()
    assert "false positives" in text
    assert "\x1b" not in text
