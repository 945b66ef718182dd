"""Correlations over the checkpoints of many runs, their correction, and regrets, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seethink.core.types import Completion
from seethink.studies.lab.reading import Unreadable, read_term
from seethink.studies.lab.schema import Term
from seethink.studies.selection.forks import Fork, find_forks
from seethink.studies.selection.study import (
    controlled_correlation,
    corrected,
    random_regret,
    regret_of,
    reliability,
    within,
)

RUNS, STEPS = [0, 0, 0, 1, 1, 1], [10, 20, 30] * 2
X, Y = np.array([1, -1, 0, -1, 1, 0.0]), np.array([1, 0, -1, -1, 0, 1.0])
"""Sums of 0 in every run and at every step; X and Y correlate by (1 + 1) / sqrt(4 * 4) = 0.5."""
COMMON = np.array([5, 15, 40, 7, 17, 42.0])
"""What runs (0, 2) and steps (5, 15, 40) add."""


def test_what_runs_and_steps_add_is_taken_out() -> None:
    assert within(X + COMMON, RUNS, STEPS) == pytest.approx(X)
    assert within(COMMON, RUNS, STEPS) == pytest.approx(np.zeros(6), abs=1e-12)


def test_the_correlation_is_of_what_is_left() -> None:
    assert controlled_correlation(X + COMMON, Y - 3 * COMMON, RUNS, STEPS) == pytest.approx(0.5)
    assert np.corrcoef(X + COMMON, Y - 3 * COMMON)[0, 1] < -0.9, "without it, the opposite would be found"
    assert math.isnan(controlled_correlation(COMMON, Y, RUNS, STEPS))
    assert math.isnan(controlled_correlation([*X[:5], math.nan], Y, RUNS, STEPS))
    assert math.isnan(controlled_correlation(X[:3], Y[:3], RUNS[:3], STEPS[:3])), "one run has nothing beside its steps"


def test_reliability_is_that_of_both_halves_together() -> None:
    """Halves that correlate by 0.5 make a whole of 2 * 0.5 / 1.5 = 2/3 (Spearman and Brown)."""
    assert reliability(list(zip(X + COMMON, Y, strict=True)), RUNS, STEPS) == pytest.approx(2 / 3)
    assert reliability(list(zip(X, X, strict=True)), RUNS, STEPS) == pytest.approx(1)
    assert math.isnan(reliability(list(zip(X, -Y, strict=True)), RUNS, STEPS))
    assert math.isnan(reliability([], [], []))


def test_a_correlation_is_corrected_for_both_reliabilities() -> None:
    assert corrected(0.3, 0.5, 0.72) == pytest.approx(0.5)
    assert corrected(-0.3, 0.5, 0.72) == pytest.approx(-0.5)
    assert math.isnan(corrected(0.3, math.nan, 0.72))
    assert math.isnan(corrected(0.3, 0.5, 0.0))


def test_measurements_with_errors_give_back_the_correlation_without() -> None:
    """True values that correlate by 0.8, each half with as much error as there is to find: 0.8 again, not 0.53."""
    rng, runs, steps = np.random.default_rng(0), np.repeat(np.arange(40), 25), np.tile(np.arange(25), 40)
    x = rng.normal(size=1000)
    y = 0.8 * x + 0.6 * rng.normal(size=1000)
    halves = [[v + rng.normal(size=1000) for _ in range(2)] for v in (x, y)]
    seen = controlled_correlation(*(sum(both) / 2 for both in halves), runs, steps)
    reliabilities = [reliability(list(zip(*both, strict=True)), runs, steps) for both in halves]
    assert seen == pytest.approx(0.8 / 1.5, abs=0.05)
    assert corrected(seen, *reliabilities) == pytest.approx(0.8, abs=0.05)


def test_what_a_choice_costs() -> None:
    accuracy = {"a": 0.5, "b": 0.62, "c": 0.56}
    assert regret_of("a", accuracy) == pytest.approx(0.12)
    assert regret_of("b", accuracy) == 0
    assert random_regret(accuracy) == pytest.approx(0.06)


def test_a_fork_is_the_first_critical_token_of_a_response_and_what_stands_before_it() -> None:
    def said(*ids: int) -> Completion:
        return Completion(list(ids), [], [], "", False, 0)

    meter: Any = SimpleNamespace(marks=lambda ids: SimpleNamespace(critical=np.array(ids) == 9))
    responses = [[said(1, 2), said(1, 9, 3, 9)], [], [said(9), said(4, 9)]]
    assert find_forks(responses, meter, 9) == [Fork(1 - 1, (1, 9)), Fork(2, (9,)), Fork(2, (4, 9))]
    assert find_forks(responses, meter, 2) == [Fork(0, (1, 9)), Fork(2, (9,))]


# --- as values of a claim


def write_run(folder: Path, entropies: np.ndarray, accuracy: np.ndarray, chosen: str) -> Path:
    """Three checkpoints; two forks and two halves of the items, which agree."""
    folder.mkdir()
    names = [f"checkpoints/step_{step:06d}" for step in (10, 20, 30)]
    rows = zip(names, (10, 20, 30), entropies, strict=True)
    forks = {name: {"step": step, "entropies": [float(x), float(x)]} for name, step, x in rows}
    (folder / "forks.json").write_text(json.dumps({"checkpoints": forks}))
    values = {n: {"value": float(y), "halves": [float(y)] * 2} for n, y in zip(names, accuracy, strict=True)}
    table = {"targets": {"out_of_domain": {"values": values}}, "criteria": {"reward": {"chosen": names[int(chosen)]}}}
    (folder / "select.json").write_text(json.dumps(table))
    return folder


@pytest.fixture
def arms(tmp_path: Path) -> dict[str, Path]:
    entropies, accuracy = 9 + X + COMMON / 9, 0.5 + Y / 100 + COMMON / 1000
    return {
        name: write_run(tmp_path / name, entropies[own], accuracy[own], "0")
        for name, own in (("a", slice(3)), ("b", slice(3, 6)))
    }


def value(arms: dict[str, Path], **term: Any) -> float:
    return read_term(Term(arm="a", runs=("b",), domain="out", **term), arms).value


def test_the_checkpoints_of_all_runs_count_together(arms: dict[str, Path]) -> None:
    assert value(arms, study="forks") == 2
    assert value(arms, study="correlation") == pytest.approx(0.5)


def test_regrets_are_averaged_over_runs(arms: dict[str, Path]) -> None:
    """Accuracies: 0.515, 0.515, 0.53; 0.497, 0.517, 0.552. Entropy is highest at the third checkpoint of both."""
    assert value(arms, study="regret", criterion="fork_entropy") == 0
    assert value(arms, study="regret", criterion="reward") == pytest.approx((0.015 + 0.055) / 2)
    assert value(arms, study="regret", criterion="random") == pytest.approx((0.01 + 0.03) / 2)
    with pytest.raises(Unreadable, match="uncertain_reward chooses no checkpoint"):
        value(arms, study="regret", criterion="uncertain_reward")
    (arms["b"] / "forks.json").write_text(json.dumps({"checkpoints": {"x": {"step": 10, "entropies": []}}}))
    assert value(arms, study="forks") == 0
    with pytest.raises(Unreadable, match="0 forks, so no finite value"):
        value(arms, study="regret", criterion="fork_entropy")
    (arms["b"] / "forks.json").unlink()
    with pytest.raises(Unreadable, match=r"no forks\.json"):
        value(arms, study="regret", criterion="reward")


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"study": "regret", "runs": ("b",), "domain": "out"}, "criterion go together"),
        ({"study": "forks"}, "study and runs go together"),
        ({"study": "correlation", "runs": ("b",)}, "of domain 'in' or 'out'"),
        ({"metric": "x", "runs": ("b",)}, "study and runs go together"),
    ],
)
def test_what_a_value_of_many_runs_needs(term: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Term(arm="a", **term)
