"""The rewarder on its own, as a library user has it, and a reward function of the user's, good and bad."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from seethink.config import RewardConfig
from seethink.core.types import Completion, Grade, Sample, Verdict
from seethink.rewards.function import RewardError, load_function
from seethink.rewards.rewarder import Rewarder

SAMPLE = Sample(id="math-0-17", question="What is 6 times 7?", answer="42")
FORMATTED = "<think>6 times 7</think> 42"

returned: object = None


def returns(response: str, sample: Sample) -> object:
    """A reward function; what it returns is set by each test."""
    return returned


def fails(response: str, sample: Sample) -> float:
    return 1 / len(sample.choices)


def completion(text: str) -> Completion:
    return Completion([], [], [], text=text, truncated=False, policy_version=0)


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to the import path goes with it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def graded(value: object, monkeypatch: pytest.MonkeyPatch) -> Completion:
    monkeypatch.setattr(sys.modules[__name__], "returned", value)
    done = completion(FORMATTED)
    with Rewarder(RewardConfig(function=f"{__name__}:returns")) as rewarder:
        rewarder.score([(SAMPLE, done)])
    return done


def test_it_works_without_a_recipe_or_a_run_folder() -> None:
    done = completion(FORMATTED)
    with Rewarder(RewardConfig(accuracy_weight=0.5, format_weight=0.25)) as rewarder:
        assert [g.verdict for g in rewarder.grade([(SAMPLE, "42"), (SAMPLE, "41")])] == [Verdict.CORRECT, Verdict.WRONG]
        rewarder.score([(SAMPLE, done)])
        assert rewarder.metrics() == {}
    assert done.reward == 0.75
    assert done.reward_parts == {"accuracy": 1.0, "format": 1.0}


@pytest.mark.parametrize("value", [0.25, np.float32(0.25)])
def test_a_number_is_the_accuracy(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    done = graded(value, monkeypatch)
    assert done.reward == pytest.approx(0.8 * 0.25 + 0.2)
    assert done.reward_parts == {"accuracy": 0.25, "format": 1.0}
    assert done.grade is not None
    assert (done.grade.verdict, done.grade.accuracy) == (Verdict.WRONG, 0.25)


@pytest.mark.parametrize(
    ("value", "verdict"), [(1, Verdict.CORRECT), (True, Verdict.CORRECT), (0, Verdict.WRONG), (0.999, Verdict.WRONG)]
)
def test_only_full_accuracy_is_correct(value: float, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    done = graded(value, monkeypatch)
    assert done.grade is not None
    assert done.grade.verdict is verdict
    assert done.reward_parts["accuracy"] == float(value)


def test_a_grade_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    grade = Grade(Verdict.WRONG, "41", "one off", score=0.5)
    done = graded(grade, monkeypatch)
    assert done.grade == grade
    assert done.reward_parts["accuracy"] == 0.5
    masked = graded(Grade(Verdict.ERROR, None, "no idea"), monkeypatch)
    assert math.isnan(masked.reward)


@pytest.mark.parametrize(
    "value",
    [None, "1", 1.5, -0.1, math.nan, math.inf, 1j, [1.0], Grade(Verdict.WRONG, None, "", score=7.0)],
    ids=repr,
)
def test_anything_else_is_refused_by_name(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RewardError, match="expected a Grade or a number from 0 to 1") as caught:
        graded(value, monkeypatch)
    for part in (f"{__name__}:returns", "math-0-17", repr(value)):
        assert part in str(caught.value)


def test_an_exception_names_function_sample_and_line() -> None:
    with Rewarder(RewardConfig(function=f"{__name__}:fails")) as rewarder, pytest.raises(RewardError) as caught:
        rewarder.grade([(SAMPLE, "42")])
    said = str(caught.value)
    for part in (f"{__name__}:fails", "math-0-17", "ZeroDivisionError: division by zero", f"({__file__}:"):
        assert part in said
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_file_may_lie_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "reward_of_mine.py").write_text(
        "def half(response, sample):\n    from neighbour_of_mine import HALF\n    return HALF\n"
    )
    (tmp_path / "neighbour_of_mine.py").write_text("HALF = 0.5\n")
    assert load_function("reward_of_mine:half", tmp_path)("42", SAMPLE) == 0.5
    with Rewarder(RewardConfig(function="reward_of_mine:half"), function_folder=tmp_path) as rewarder:
        assert rewarder.grade([(SAMPLE, "42")])[0].accuracy == 0.5


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("no_such_reward:f", r"No module named 'no_such_reward'; it must be module:function, importable here"),
        ("math:no_such_name", "no attribute 'no_such_name'"),
        ("math:pi", "is not a function but float"),
        ("math", "it must be module:function"),
        (":f", "it must be module:function"),
        ("broken_reward:f", r"SyntaxError"),
    ],
)
def test_a_function_that_is_not_there_is_named(path: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "broken_reward.py").write_text("def f(:\n")
    with pytest.raises(RewardError, match=complaint) as caught:
        load_function(path, tmp_path)
    assert repr(path) in str(caught.value)
    assert str(tmp_path) in str(caught.value) or path == "math:pi"
