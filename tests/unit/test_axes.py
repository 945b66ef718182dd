"""Axes of any values: tiny, equal, nearly equal, huge. No chart divides by zero."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest

from seethink.report import write_report
from seethink.report.axes import doubling_axis, linear_axis, step_axis, tick_text, value_axis

VALUES = (
    -1e30, -5.0, -0.3, -1e-14, 0.0, 5e-324, 1e-310, 1.8e-15, 7.1e-15, 5.7e-14, 2.3e-13, 1e-12, 1e-5, 0.1,
    0.10000000000000002, 1.0, 1 + 2e-12, 1e15, 1e15 + 0.125, 1e20, 1e20 + 16384, 1e30,
)  # fmt: skip
PAIRS = list(itertools.combinations_with_replacement(VALUES, 2))


@pytest.mark.parametrize("from_zero", [False, True])
@pytest.mark.parametrize("log", [False, True])
def test_every_value_has_a_place_on_its_axis(log: bool, from_zero: bool) -> None:
    for low, high in PAIRS:
        if log and low <= 0:
            continue
        axis = value_axis(low, high, log, from_zero)
        assert axis.low < axis.high, (low, high)
        first, last = axis.share(low), axis.share(high)
        assert math.isfinite(first)
        assert -1e-6 <= first <= last + 1e-9 <= 1 + 1e-6, (low, high)
        assert 2 <= len(axis.ticks) <= 12, (low, high)
        assert all(tick_text(tick) for tick in axis.ticks)


def test_steps_and_budgets() -> None:
    for low, high in PAIRS:
        if max(abs(low), abs(high)) <= 1e15:
            axis = step_axis(low, high)
            assert math.isfinite(axis.share(low) + axis.share(high))
        if low >= 1e-3:
            axis = doubling_axis(low, high)
            assert 0 <= axis.share(low) <= axis.share(high) <= 1


def test_ticks_of_ordinary_values_are_round() -> None:
    assert linear_axis(0, 1).ticks == (0, 0.2, 0.4, 0.6, 0.8, 1)
    assert linear_axis(0, 2.3e-13).ticks == (0, 5e-14, 1e-13, 1.5e-13, 2e-13, 2.5e-13)


@pytest.mark.parametrize("values", [(1.8e-15, 5.7e-14), (0.0, 4e-13), (3e-13, 3e-13), (0.0, 0.0), (5e-324, 1e-300)])
def test_a_run_whose_sampler_and_trainer_agree_has_a_report(tmp_path: Path, values: tuple[float, float]) -> None:
    rows = [
        {
            "step": step,
            "reward/mean": 0.5,
            "mismatch_kl/mean": value,
            "mismatch_kl/max": 4 * value,
            "entropy/mean": value,
        }
        for step, value in enumerate(values, start=1)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "<svg" in write_report(tmp_path).read_text()


@pytest.mark.parametrize("budget", [5e-324, -4, 0, 1e300, "x"])
def test_budgets_that_have_no_place(tmp_path: Path, budget: object) -> None:
    row = {"mode": "slow", "domain": "all", "accuracy": 0.5, "se": 0.1, "n": 4, "tokens_mean": 30.0}
    rows = [row | {"budget": None, "forced": False}, row | {"budget": budget, "forced": True}]
    (tmp_path / "modes.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss/total": 1.0}\n')
    assert "seethink report" in write_report(tmp_path).read_text()
