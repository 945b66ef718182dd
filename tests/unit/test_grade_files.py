"""Files of cases: a verdict for every line, and rates where the lines say what to expect."""

import json
from pathlib import Path

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
