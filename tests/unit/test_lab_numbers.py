"""From an arm's folder to a verdict, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethink.core.types import Completion, Grade, Sample, Verdict
from seethink.studies.lab.measurements import checkpoints_before, decoding_record
from seethink.studies.lab.reading import Reading, Unreadable, read_term
from seethink.studies.lab.schema import Claim, Term
from seethink.studies.lab.values import SeedValues
from seethink.studies.lab.verdict import Effect, estimate_effect, judge


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def item(id: str, domain: str, accuracy: float | None, difficulty: str = "easy") -> dict[str, Any]:
    return {"id": id, "domain": domain, "difficulty": difficulty, "accuracy": accuracy, "tokens": 10.0}


@pytest.fixture
def arms(tmp_path: Path) -> dict[str, Path]:
    rows = [
        item("m1", "math", 1.0),
        item("m2", "math", 0.5, "hard"),
        item("d1", "dice", 0.0),
        item("c1", "charts", 1.0),
    ]
    write(tmp_path / "a" / "eval" / "items.jsonl", [*rows, item("d2", "dice", None), item("d3", "dice", 1.0)])
    write(tmp_path / "b" / "eval" / "items.jsonl", [{**row, "accuracy": 0.0} for row in rows])
    steps = [{"step": i, "reward/mean": i / 8, "optim/grad_norm": float(2 ** (i % 2)), "x": None} for i in range(8)]
    write(tmp_path / "a" / "metrics.jsonl", steps)
    modes = [
        {"mode": "slow", "budget": None, "forced": False, "domain": d, "accuracy": a, "tokens_mean": 20}
        for d, a in (("all", 0.99), ("math", 0.8), ("dice", 0.5), ("charts", 0.3))
    ]
    for budget, forced, accuracy in ((16, True, 0.4), (64, True, 0.7), (16, False, 0.1), (64, False, 0.2)):
        row = {"mode": "budget", "budget": budget, "forced": forced, "domain": "math", "accuracy": accuracy}
        modes.append(row | {"tokens_mean": budget})
    (tmp_path / "a" / "modes.json").write_text(json.dumps({"rows": modes}))
    seen = {"share": {"value": 0.1}, "accuracy_with": {"value": None}, "accuracy_without": {"value": 0.7}}
    rows = [{"group": "image", "share": {"value": 0.9}}, {"group": "all", **seen}]
    (tmp_path / "a" / "hallucination.json").write_text(json.dumps({"rows": rows}))
    selected = {
        "criteria": {
            "reward": {"chosen": "s20", "values": {"s10": {"n": 3}}},
            "critical_entropy": {"chosen": None, "values": {"s10": {"count": 140}, "s20": {"count": 90}}},
        },
        "targets": {"out_of_domain": {"values": {"s10": {"value": 0.6}, "s20": {"value": 0.55}}}},
        "correlations": [
            {"criterion": "reward", "target": "in_domain", "pearson": 0.1},
            {"criterion": "reward", "target": "out_of_domain", "pearson": -0.8},
            {"criterion": "critical_entropy", "target": "out_of_domain", "pearson": None},
        ],
    }
    (tmp_path / "a" / "select.json").write_text(json.dumps(selected))
    return {name: tmp_path / name for name in ("a", "b")}


def value(arms: dict[str, Path], **term: Any) -> float:
    return read_term(Term(arm="a", **term), arms).value


def test_every_domain_counts_the_same_and_what_could_not_be_graded_is_left_out(arms: dict[str, Path]) -> None:
    assert value(arms, eval="accuracy", domain="in") == pytest.approx(0.75)
    assert value(arms, eval="accuracy", domain="out") == pytest.approx((0.5 + 1.0) / 2)
    assert value(arms, eval="accuracy") == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    assert value(arms, eval="accuracy", domain="in", difficulty="hard") == 0.5
    assert value(arms, eval="tokens") == pytest.approx(10)


def test_the_items_average_to_the_value(arms: dict[str, Path]) -> None:
    reading = read_term(Term(arm="a", eval="accuracy"), arms)
    assert reading.items is not None
    assert len(reading.items) == 5
    assert sum(reading.items.values()) / 5 == pytest.approx(reading.value)


def test_the_last_three_checkpoints_count_the_same_whatever_was_asked_of_each(arms: dict[str, Path]) -> None:
    """m1: 1, 1, 0; m2: 0.5, 0, 0. An answer that could not be graded leaves the mean of the others: d1: 0, 1."""
    before = [item("m1", "math", 0.0), item("m2", "math", 0.0), item("d1", "dice", None), item("c1", "charts", 1.0)]
    after = [item("m1", "math", 1.0), item("m2", "math", 0.0), item("d1", "dice", 1.0), item("c1", "charts", 1.0)]
    rows = [{"checkpoint": c, **row} for c, own in (("step_80", before), ("step_90", after)) for row in own]
    write(arms["a"] / "eval" / "earlier.jsonl", rows)
    found = read_term(Term(arm="a", eval="accuracy", domain="in", newest=3), arms)
    assert found.items == {"m1": pytest.approx(2 / 3), "m2": pytest.approx(0.5 / 3)}
    assert found.newest == (0.0, 0.5, 0.75)
    assert found.value == pytest.approx(sum(found.newest) / 3)
    assert value(arms, eval="accuracy", domain="out", newest=3) == pytest.approx(((0.5 + 1.0) / 2 + 1) / 2)
    assert value(arms, eval="accuracy", domain="in") == 0.75  # the last alone
    gain = read_term(Term(arm="a", minus="b", eval="accuracy", domain="in", newest=3), arms)
    assert gain.newest == found.newest


def test_greedy_and_pass_at_8_are_over_the_items_of_their_own_file(arms: dict[str, Path]) -> None:
    rows = [{**item("m1", "math", None), "greedy": 0.0, "pass@8": 1.0}]
    rows += [{**item(f"d{i}", "dice", None), "greedy": None, "pass@8": float(i == 1)} for i in range(4)]
    write(arms["a"] / "decodings.jsonl", rows)
    assert value(arms, decoding="greedy") == 0
    assert value(arms, decoding="pass@8") == pytest.approx((1 + 0.25) / 2)
    with pytest.raises(Unreadable, match="b has not been evaluated"):
        value(arms, decoding="greedy", minus="b")


def test_the_checkpoints_before_the_last_are_the_newest_complete_ones(tmp_path: Path) -> None:
    for name in ("step_000010", "step_000080", "step_000090", "step_000100", "damaged_step_000085"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "step_000095").mkdir()  # half written
    last = tmp_path / "step_000100"
    assert [path.name for path in checkpoints_before(last, 2)] == ["step_000080", "step_000090"]
    assert [path.name for path in checkpoints_before(last, 9)] == ["step_000010", "step_000080", "step_000090"]
    assert checkpoints_before(last, 0) == checkpoints_before(tmp_path / "step_000010", 2) == []


def test_one_right_try_of_eight_is_enough_and_errors_of_the_grader_do_not_count() -> None:
    sample = Sample(id="x", question="q", domain="math", difficulty="hard")
    right, wrong, broken = (
        Completion([1], [0.0], [0.0], "t", False, 0, grade=Grade(verdict, None, "r"))
        for verdict in (Verdict.CORRECT, Verdict.WRONG, Verdict.ERROR)
    )
    record = decoding_record(sample, [wrong], [wrong, broken, right, *[wrong] * 5])
    assert (record["greedy"], record["pass@8"]) == (0.0, 1.0)
    assert decoding_record(sample, [broken], [broken] * 8)["pass@8"] is None
    assert decoding_record(sample, [right], [wrong] * 8)["pass@8"] == 0.0


def test_a_gain_is_over_the_items_that_both_have(arms: dict[str, Path]) -> None:
    gain = read_term(Term(arm="a", minus="b", eval="accuracy", domain="in"), arms)
    assert gain.value == pytest.approx(0.75)
    assert gain.items == {"m1": 1.0, "m2": 0.5}


def test_metrics_over_a_span_of_the_steps(arms: dict[str, Path]) -> None:
    assert value(arms, metric="reward/mean") == pytest.approx(3.5 / 8)
    assert value(arms, metric="reward/mean", span=[0.75, 1.0]) == pytest.approx(6.5 / 8)
    assert value(arms, metric="reward/mean", span=[0.95, 1.0]) == pytest.approx(7 / 8)  # one step at least
    assert value(arms, metric="reward/mean", span=[0.0, 0.5], stat="max") == pytest.approx(3 / 8)


def test_jitter_is_the_median_change_of_the_logarithm(arms: dict[str, Path]) -> None:
    assert value(arms, metric="optim/grad_norm", stat="jitter") == pytest.approx(math.log(2))


def test_modes_and_budgets(arms: dict[str, Path]) -> None:
    assert value(arms, mode="slow") == pytest.approx((0.8 + 0.5 + 0.3) / 3)
    assert value(arms, mode="slow", domain="out") == pytest.approx(0.4)
    assert value(arms, mode="budget", budget=0.25) == pytest.approx(0.4)
    assert value(arms, mode="budget", budget=1.0, column="tokens_mean") == 64


def test_hallucinations(arms: dict[str, Path]) -> None:
    assert value(arms, hallucination="share") == 0.1
    assert value(arms, hallucination="accuracy_without") == 0.7


def test_selection(arms: dict[str, Path]) -> None:
    assert value(arms, tokens_of="critical_entropy") == 90
    assert value(arms, regret="reward", domain="out") == pytest.approx(0.05)
    assert value(arms, correlation="reward", domain="out") == -0.8


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"metric": "entropy/none"}, "metrics.jsonl has no entropy/none"),
        ({"metric": "x"}, "metrics.jsonl has no x"),
        ({"regret": "critical_entropy", "domain": "out"}, "critical_entropy chooses no checkpoint"),
        (
            {"correlation": "critical_entropy", "domain": "out"},
            "no finite value of the correlation of critical_entropy",
        ),
        ({"correlation": "tail_share", "domain": "out"}, "no finite value of the correlation of tail_share"),
        ({"tokens_of": "reward"}, "select.json does not count the tokens behind reward"),
        ({"hallucination": "accuracy_with"}, "no finite value of accuracy_with"),
        ({"hallucination": "share", "minus": "b"}, "no hallucination.json"),
        ({"mode": "nowait"}, "modes.json has no nowait"),
        ({"metric": "reward/mean", "minus": "b"}, "metrics.jsonl has no reward/mean"),
        ({"metric": "reward/mean", "span": [0.0, 0.1], "stat": "jitter"}, "no finite value of reward/mean"),
    ],
)
def test_what_is_missing_is_said(arms: dict[str, Path], term: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        value(arms, **term)


# --- effects


def claim(expect: str, least: float, *, ratio: bool = False) -> Claim:
    term = Term(arm="a", metric="m")
    return Claim(text="t", paper="p", left=term, right=term, ratio=ratio, expect=expect, least=least)  # type: ignore[arg-type]


def seeds_of(claim: Claim, *pairs: tuple[Reading, Reading]) -> list[SeedValues]:
    return [SeedValues.of(claim, seed, *pair) for seed, pair in enumerate(pairs)]


def estimate(claim: Claim, *pairs: tuple[float, float]) -> Effect:
    return estimate_effect(claim, seeds_of(claim, *((Reading(left), Reading(right)) for left, right in pairs)))


def test_the_interval_is_students_over_the_seeds_differences() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t of 0.95 with 2 degrees of freedom 2.91999."""
    effect = estimate(claim("more", 0), (5, 4), (5, 3), (3, 0))
    assert effect.value == pytest.approx(2.0)
    assert effect.high - 2 == pytest.approx(2.91999 / math.sqrt(3), rel=1e-4)
    assert effect.by_seed == (1.0, 2.0, 3.0)
    assert effect.seeds == 3


def test_a_ratio_is_compared_by_its_logarithm() -> None:
    effect = estimate(claim("more", 1, ratio=True), (2, 1), (8, 1))
    assert effect.value == pytest.approx(4.0)
    assert effect.low * effect.high == pytest.approx(16.0)


def test_one_seed_with_one_item_has_no_interval() -> None:
    one = claim("more", 0)
    found = estimate_effect(one, seeds_of(one, (Reading(1.0, {"a": 1.0}), Reading(0.0, {"a": 0.0}))))
    assert found.value == 1.0
    assert math.isnan(found.low)


def test_a_ratio_to_nothing_is_no_number() -> None:
    one = claim("more", 1, ratio=True)
    assert judge(one, estimate(one, (2, 0), (8, 1))) == "can't tell"


def test_seeds_that_agree_by_chance_leave_the_interval_of_the_items() -> None:
    left = Reading(0.5, {str(i): float(i % 2) for i in range(100)})
    right = Reading(0.0, {str(i): 0.0 for i in range(100)})
    one = claim("more", 0)
    effect = estimate_effect(one, seeds_of(one, *[(left, right)] * 3))
    assert effect.items == 100
    assert effect.item_error == pytest.approx(math.sqrt(0.25 / 99))
    assert 0.03 < effect.high - effect.value < 0.07  # 1.645 * 0.5 / sqrt(300) = 0.047


def test_arms_without_an_item_in_common_are_not_compared() -> None:
    with pytest.raises(Unreadable, match="no item in common"):
        SeedValues.of(claim("more", 0), 0, Reading(1.0, {"a": 1.0}), Reading(1.0, {"b": 1.0}))


def effect(value: float, low: float, high: float, seeds: int = 3) -> Effect:
    return Effect(value, low, high, seeds, 0, (value,) * seeds, math.nan)


@pytest.mark.parametrize(
    ("expect", "found", "verdict"),
    [
        ("more", effect(3, 1, 5), "agrees"),
        ("more", effect(3, 2.5, 3.5), "agrees"),
        ("more", effect(3, -1, 7), "can't tell"),
        ("more", effect(1.5, 1, 2.5), "can't tell"),  # above nothing, but is it enough?
        ("more", effect(1, 0.5, 1.5), "too small"),
        ("more", effect(1, -0.5, 1.5), "absent"),
        ("more", effect(-3, -7, 1), "absent"),
        ("more", effect(-3, -5, -1), "reversed"),
        ("more", effect(-0.2, -0.3, -0.1), "reversed"),
        ("less", effect(-3, -5, -1), "agrees"),
        ("less", effect(-1, -1.5, -0.5), "too small"),
        ("less", effect(0, -1, 1), "absent"),
        ("less", effect(3, 1, 5), "reversed"),
        ("less", effect(-3, -7, 1), "can't tell"),
        ("not-more", effect(3, 1, 5), "reversed"),
        ("not-more", effect(0, -1, 1), "agrees"),
        ("not-more", effect(-3, -5, -1), "agrees"),
        ("not-more", effect(1, 0.5, 1.5), "agrees"),  # there, but short of what counts
        ("not-more", effect(1, -1, 3), "can't tell"),
        ("not-less", effect(-3, -5, -1), "reversed"),
        ("not-less", effect(0, -1, 1), "agrees"),
        ("same", effect(0, -1, 1), "agrees"),
        ("same", effect(0, -3, 3), "can't tell"),
        ("same", effect(4, 3, 5), "reversed"),
        ("same", effect(-4, -5, -3), "reversed"),
        ("more", effect(3, 1, 5, seeds=1), "can't tell"),
        ("more", effect(3, math.nan, math.nan), "can't tell"),
        ("more", effect(3, 3, 3), "can't tell"),
    ],
)
def test_the_decision_rule(expect: str, found: Effect, verdict: str) -> None:
    assert judge(claim(expect, 2), found) == verdict


@pytest.mark.parametrize(
    ("expect", "found", "verdict"),
    [
        ("more", effect(2, 1.2, 3), "agrees"),
        ("more", effect(1.1, 0.9, 1.3), "absent"),
        ("more", effect(1.2, 1.1, 1.3), "too small"),
        ("more", effect(0.8, 0.7, 0.9), "reversed"),
        ("less", effect(0.5, 0.3, 0.8), "agrees"),
        ("less", effect(0.9, 0.8, 1.05), "absent"),
        ("same", effect(1, 0.8, 1.2), "agrees"),
    ],
)
def test_the_decision_rule_for_factors(expect: str, found: Effect, verdict: str) -> None:
    assert judge(claim(expect, 1.5, ratio=True), found) == verdict


@given(st.sampled_from(["more", "less"]), st.floats(0, 5), st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_where_more_and_less_do_not_agree_the_verdict_says_why(expect: str, least: float, ends: list[float]) -> None:
    """Mirrored claims have mirrored verdicts, and only `can't tell` leaves an effect that counts possible."""
    low, value, high = sorted(ends)
    side = 1 if expect == "more" else -1
    mirrored = effect(side * value, *sorted((side * low, side * high)))
    verdict = judge(claim(expect, least), mirrored)
    assert verdict == judge(claim("more", least), effect(value, low, high))
    if low == high:
        assert verdict == "can't tell"
    elif verdict in ("too small", "absent", "reversed"):
        assert high < least
    elif verdict == "agrees":
        assert low > 0
        assert value >= least
