"""The examples run, stay short, and use nothing but the public API."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import seethink

FOLDER = Path(__file__).resolve().parents[2] / "examples"
LOOP = FOLDER / "grpo_loop.py"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run an example with these words as a user does; gives the lines that it prints."""

    def run(example: Path, *words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [str(example), *words])
        monkeypatch.syspath_prepend(str(FOLDER))
        runpy.run_path(str(example), run_name="__main__")
        return capsys.readouterr().out.strip().splitlines()

    return run


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_stays_one_short_file(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) <= (250 if example == LOOP else 60)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_uses_the_public_api_alone(example: Path) -> None:
    tree = ast.parse(example.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).partition(".")[0] == "seethink"]
    assert {node.module for node in ours} == {"seethink"}
    assert {alias.name for node in ours for alias in node.names} <= set(seethink.__all__)


@pytest.mark.slow
def test_the_loop_trains(run: Callable[..., list[str]]) -> None:
    lines = run(LOOP, "--steps", "2", "--prompts", "3", "--group-size", "4", "--max-new-tokens", "24")
    assert [line.split("  ")[0] for line in lines] == ["step 1/2", "step 2/2"]
    assert all("reward" in line and "grad_norm" in line for line in lines)


def test_a_reward_of_ones_own(run: Callable[..., list[str]]) -> None:
    lines = run(FOLDER / "own_reward.py", "--size", "4")
    means = [
        re.match(r"(rule grader|off by one): mean reward (\d\.\d+) of 16 responses; first: Grade", x) for x in lines
    ]
    assert [found[1] for found in means if found] == ["rule grader", "off by one"]


def test_own_reward_forgives_one_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    off_by_one = runpy.run_path(str(FOLDER / "own_reward.py"))["off_by_one"]
    verdicts = [off_by_one(f"The answer is {n}.", seethink.Sample("s", "?", answer="7")).verdict for n in (6, 7, 8, 9)]
    assert verdicts == ["correct", "correct", "correct", "wrong"]


def test_grading_a_file(run: Callable[..., list[str]], tmp_path: Path) -> None:
    lines = run(FOLDER / "grade_file.py")
    assert lines[0].startswith("line 1: correct (")
    assert lines[-2].startswith("5 cases: ")
    assert lines[-1] == "as a person judged: 5 of 5"
    cases = tmp_path / "mine.jsonl"
    cases.write_text('{"id": "a", "prediction": "The answer is 4.", "gold": "5"}\n', encoding="utf-8")
    assert run(FOLDER / "grade_file.py", str(cases))[-1] == "1 cases: {'wrong': 1}"


def test_entropy_of_a_checkpoint(run: Callable[..., list[str]]) -> None:
    lines = run(FOLDER / "checkpoint_entropy.py", "nano", "--size", "3", "--max-new-tokens", "24")
    nats = {name.strip(): float(x.split()[0]) for name, _, x in (line.partition(": ") for line in lines) if "nats" in x}
    assert "first token of a response" in nats
    assert "all" in nats
    assert all(0 <= value < 8 for value in nats.values())
    assert lines[-1].startswith("accuracy: ")
