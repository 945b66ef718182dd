"""Two results side by side, from files and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from seethink.core.errors import UserError
from seethink.entropy.meter import Estimate
from seethink.studies.entropy.comparison import compare
from seethink.studies.entropy.result_files import Stored, load_report, load_stored


def stored(sums: list[float], ids: list[str], *, unit: str = "prompt", threshold: float = 2.0) -> Stored:
    """Two tokens to every prompt."""
    estimate = Estimate(np.array(sums), np.full(len(sums), 2))
    tail = Estimate(np.ones(len(sums)), np.full(len(sums), 2))
    return Stored("x", unit, ids, ["Wait"], threshold, {"all": estimate}, {"all": tail})


def test_paired_by_hand() -> None:
    """Means 1.5 and 2.0; every prompt's own difference is 0.5, or 0.4 and 0.6 about it."""
    first = stored([2.0, 4.0], ["a", "b"])
    row = compare(first, stored([5.0, 3.0], ["b", "a"]))[0]
    assert (row.a, row.b, row.value, row.paired, row.n) == (1.5, 2.0, 0.5, True, (4, 4))
    assert (row.low, row.high) == pytest.approx((0.5, 0.5))
    row = compare(first, stored([2.8, 5.2], ["a", "b"]))[0]
    # Influence of each prompt on the difference: (0.8 - 2 * 0.5) / 4 and (1.2 - 2 * 0.5) / 4.
    se = math.sqrt(2 * (0.05**2 + 0.05**2))
    assert (row.low, row.high) == pytest.approx((0.5 - 1.959964 * se, 0.5 + 1.959964 * se))


def test_other_prompts_are_not_paired() -> None:
    first, second = stored([2.0, 4.0], ["a", "b"]), stored([2.8, 5.2], ["a", "c"])
    row = compare(first, second)[0]
    se = math.hypot(first.means["all"].se, second.means["all"].se)
    assert not row.paired
    assert row.high - row.value == pytest.approx(1.959964 * se)


def test_tails_are_compared_only_above_one_threshold() -> None:
    same, other = stored([2.0, 4.0], ["a", "b"]), stored([2.0, 4.0], ["a", "b"], threshold=3.0)
    assert [row.name for row in compare(same, same)] == ["all", "all: tail"]
    assert [row.name for row in compare(same, other)] == ["all"]


def line(step: int, mean: float) -> str:
    group = {"count": 10, "mean": mean, "tail_share": 0.1}
    nothing = {"count": 0, "mean": None, "tail_share": None}
    groups = {"all": group, "critical": nothing}
    return json.dumps({"step": step, "stage": "grpo", "threshold": 2.0, "words": ["Wait"], "groups": groups}) + "\n"


def test_runs_are_compared_on_the_steps_of_both(tmp_path: Path) -> None:
    for name, means in (("one", [1.0, 2.0, 9.0]), ("two", [1.5, 2.5])):
        (tmp_path / name).mkdir()
        text = "".join(line(step, mean) for step, mean in enumerate(means, 1))
        (tmp_path / name / "entropy.jsonl").write_text(text + '{"step": 4, "gro')
    rows = {row.name: row for row in compare(*(load_stored(tmp_path / name) for name in ("one", "two")))}
    assert (rows["all"].a, rows["all"].b, rows["all"].n) == (1.5, 2.0, (20, 20))
    assert (rows["all"].low, rows["all"].high) == pytest.approx((0.5, 0.5))
    assert math.isnan(rows["critical"].value)
    assert rows["all: tail"].value == pytest.approx(0.0)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    prompts, steps = stored([1.0, 2.0], ["1", "2"]), stored([1.0, 2.0], ["1", "2"], unit="step")
    with pytest.raises(UserError, match="two reports, or two runs"):
        compare(prompts, steps)
    with pytest.raises(UserError, match="no step in common"):
        compare(steps, stored([1.0], ["3"], unit="step"))
    (tmp_path / "no.json").write_text('{"kind": "other"}')
    with pytest.raises(UserError, match=r"no\.json is not a result"):
        load_report(tmp_path / "no.json")
    with pytest.raises(UserError, match=r"has no entropy\.jsonl"):
        load_stored(tmp_path)
    (tmp_path / "entropy.jsonl").write_text('{"step": 1, "groups": {"all": {}}}\n')
    with pytest.raises(UserError, match="is damaged"):
        load_stored(tmp_path)
