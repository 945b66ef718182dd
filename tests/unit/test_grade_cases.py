"""The labelled cases of this repository, and the shared ones where they are at hand."""

import json
from pathlib import Path

import pytest

from seethink.core.types import Verdict
from seethink.rewards.grade_files import grade_file
from seethink.rewards.grader import grade

OWN = Path(__file__).parents[1] / "data" / "grading.jsonl"
SHARED = Path(__file__).parents[3] / "shared" / "grading" / "cases.jsonl"


@pytest.mark.parametrize("case", [json.loads(line) for line in OWN.open()], ids=lambda case: case["id"])
def test_own_case(case: dict) -> None:
    found = grade(case["prediction"], case["gold"], case["answer_type"], case.get("choices"))
    assert (found.verdict is Verdict.CORRECT) == case["expected"], found


@pytest.mark.skipif(not SHARED.exists(), reason="the shared cases are not at hand")
def test_shared_cases() -> None:
    summary = grade_file(SHARED)
    assert summary.overall.accuracy >= 0.98, summary.misses
    assert summary.overall.false_positive_rate <= 0.01, summary.misses
    assert summary.overall.errors == 0


CASES = sorted((Path(__file__).parents[3] / "shared" / "cases").glob("**/*grading.jsonl")) + sorted(
    (Path(__file__).parents[3] / "shared" / "cases" / "attack").glob("0[1-4]-*.jsonl")
)


@pytest.mark.skipif(not CASES, reason="the shared cases are not at hand")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_reported_cases_and_attacks(path: Path) -> None:
    summary = grade_file(path)
    assert summary.overall.accuracy >= 0.99, summary.misses
    assert summary.overall.false_positives == summary.overall.errors == 0


def test_types_are_inferred_where_they_are_not_given() -> None:
    cases = [json.loads(line) for line in OWN.open()]
    wrong = [
        case["id"]
        for case in cases
        if (grade(case["prediction"], case["gold"], None, case.get("choices")).verdict is Verdict.CORRECT)
        != case["expected"]
    ]
    assert len(wrong) <= 0.02 * len(cases), wrong
