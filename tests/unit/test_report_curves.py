"""Held-out accuracy during training, as the report draws it: what it reads, its errors, and when it is absent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from seethink.report.charts import Figure
from seethink.report.curves import MOST_EVALUATIONS, stage_figures
from seethink.report.load import load_run


def held_out(folder: Path, rows: list[dict[str, Any]]) -> Figure | None:
    """The figure of a stage whose metrics.jsonl has these rows."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    figures, _ = stage_figures(load_run(folder).stages[0])
    return next((figure for figure in figures if figure.title == "Held-out accuracy"), None)


def evaluated(step: int, **tasks: tuple[float, float | None]) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step, "loss/total": 1.0}
    for task, (accuracy, stderr) in tasks.items():
        row |= {f"eval/{task}/accuracy": accuracy, f"eval/{task}/stderr": stderr}
    return row


def whiskers(svg: str, tone: str) -> list[tuple[float, float]]:
    found = re.findall(rf'class="whisker {tone}" d="M[\d.]+ ([\d.]+)V([\d.]+)"', svg)
    return [(float(low), float(high)) for low, high in found]


def test_each_task_has_a_line_with_its_standard_errors(tmp_path: Path) -> None:
    rows = [{"step": step, "loss/total": 1.0} for step in range(1, 20)]
    rows += [evaluated(20, math=(0.4, 0.02), all=(0.3, 0.01)), evaluated(40, math=(0.6, 0.02), all=(0.5, 0.01))]
    figure = held_out(tmp_path, rows)
    assert figure
    assert figure.legend == [("all", "a"), ("math", "b")]
    for tone, error in (("a", 0.01), ("b", 0.02)):
        path = re.search(rf'class="line {tone}" d="M([^"]+)"', figure.svg)
        assert path
        first, last = (float(point.split()[1]) for point in path[1].split("L"))
        pixels = (first - last) / 0.2
        assert [low - high for low, high in whiskers(figure.svg, tone)] == pytest.approx(
            [2 * error * pixels] * 2, abs=0.2
        )
    assert "<title>math, step 40: 60.0 ± 2.0 %</title>" in figure.svg
    assert "Not drawn" not in figure.note


def test_without_an_evaluation_there_is_no_figure(tmp_path: Path) -> None:
    assert held_out(tmp_path, [{"step": 1, "loss/total": 1.0}]) is None
    assert held_out(tmp_path, [{"step": 1, "loss/total": 1.0, "eval/math/accuracy": None}]) is None


def test_domains_within_a_task_and_other_keys_are_no_lines(tmp_path: Path) -> None:
    row = evaluated(5, all=(0.5, 0.1)) | {"eval/all/math/accuracy": 0.1, "eval/accuracy": 0.2, "eval/all/tokens": 9.0}
    figure = held_out(tmp_path, [row])
    assert figure
    assert figure.legend == [("all", "a")]
    assert figure.svg.count("<circle") == 1


def test_an_accuracy_without_an_error_has_no_whisker(tmp_path: Path) -> None:
    figure = held_out(tmp_path, [evaluated(5, math=(0.5, None)), evaluated(10, math=(0.6, float("nan")))])
    assert figure
    assert (figure.svg.count("<circle"), figure.svg.count("whisker")) == (2, 0)


def test_more_tasks_than_colours_are_named_and_many_evaluations_thinned(tmp_path: Path) -> None:
    tasks = {f"task{place}": (0.1 * place, 0.01) for place in range(7)}
    figure = held_out(tmp_path, [evaluated(step, **tasks) for step in range(1, 351)])
    assert figure
    assert len(figure.legend) == 5
    assert figure.note.endswith("Not drawn: 2 more tasks.")
    assert 5 * MOST_EVALUATIONS / 2 < figure.svg.count("<circle") <= 5 * MOST_EVALUATIONS


def test_a_hostile_name_of_a_task_is_escaped(tmp_path: Path) -> None:
    figure = held_out(tmp_path, [evaluated(5, **{"<img src=x onerror=alert(1)>": (0.5, 0.1)})])
    assert figure
    assert "<img" not in figure.svg
