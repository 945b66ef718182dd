"""A quickstart says how far one run may lie from another, on the terminal and on its page."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from seethink.report import summary_table, write_report
from seethink.studies.quickstart import PIPELINES, spread_note

STORED = {
    "date": "2026-01-02",
    "runs": [
        {"seed": 0, "machine": "m", "In-domain": {"RL": 50.5}, "Out-of-domain": {"RL": 52.92}},
        {"seed": 1, "machine": "m", "In-domain": {"RL": 57.7}, "Out-of-domain": {"RL": 50.0}},
    ],
}


def test_the_note_has_the_range_of_the_stored_runs(tmp_path: Path) -> None:
    stored = tmp_path / "runs.json"
    stored.write_text(json.dumps(STORED))
    note = spread_note(stored)
    assert "2 quickstarts (their seeds differ" in note
    assert "50.5 to 57.7 % in-domain" in note
    assert "50.0 to 52.9 % out-of-domain" in note


@pytest.mark.parametrize(("world", "seeds"), [(1, 2), (2, 5)])
def test_the_packaged_runs_are_of_several_seeds(world: int, seeds: int) -> None:
    runs = json.loads(PIPELINES[world].runs.read_text())["runs"]
    assert len({(run["seed"], run["machine"]) for run in runs}) == len(runs) >= 4
    assert len({run["seed"] for run in runs}) >= seeds


def test_terminal_and_page_say_it(tmp_path: Path) -> None:
    score = {"domain": "math", "difficulty": "all", "mode": "avg@2", "n": 10, "accuracy": 0.5, "stderr": 0.1}
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "eval.json").write_text(json.dumps({"label": "base", "scores": [score]}))
    note = "One run is <b>one</b> draw."
    pipeline = {"stages": [{"name": "base", "dir": "base"}], "in_domain": ["math"], "note": note}
    (tmp_path / "pipeline.json").write_text(json.dumps(pipeline))
    terminal = Console(width=200, record=True, file=io.StringIO())
    terminal.print(summary_table(tmp_path))
    assert note in terminal.export_text()
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "One run is &lt;b&gt;one&lt;/b&gt; draw." in page
