"""`seethink modes` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seethink.cli.main import app
from seethink.core.errors import UserError
from seethink.studies.modes import compare_modes

SMALL = ["--data", "world:math,dice", "--size", "3", "--samples", "2", "--max-new-tokens", "12", "--answer-tokens", "4"]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["modes", "nano", *SMALL, *words], env={"COLUMNS": "200"})
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_modes_and_budgets_of_the_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "modes.json"
    text = run("--budgets", "2,4", "--words", "answer", "--out", str(out))
    assert all(label in text for label in ("slow", "nothink", "nowait", "2 cut", "4 closed", "against slow"))
    table = json.loads(out.read_text())
    assert {row["domain"] for row in table["rows"]} == {"all", "math", "dice"}
    rows = {(r["mode"], r["budget"], r["forced"]): r for r in table["rows"] if r["domain"] == "all"}
    assert len(rows) == 7
    assert all(row["n"] == 6 for row in rows.values())
    # The base model answers "The answer is 7." and does not think.
    assert rows["slow", None, False]["critical_mean"] == 1
    assert rows["nowait", None, False]["critical_mean"] == 0
    assert rows["budget", 2, False]["tokens_mean"] == 2
    assert rows["budget", 2, True]["tokens_mean"] > 3

    monkeypatch.setattr(compare_modes, "draw_graded", lambda *args, **rest: pytest.fail("sampled again"))
    run("--budgets", "4,2", "--words", "answer", "--out", str(out))
    assert json.loads(out.read_text()) == table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modes", "fast"], "no mode 'fast'"),
        (["--budgets", "12"], "a budget of 12 is not between 0 and the longest response"),
        (["--budgets", "many"], "expected numbers of tokens"),
    ],
)
def test_mistakes_are_said_before_anything_is_loaded(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_modes, "load_model", lambda *args: pytest.fail("loaded a model"))
    with pytest.raises(UserError, match=message):
        run(*words)
