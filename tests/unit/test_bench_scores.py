"""Composite scores against hand tables, published formulas and their own invariances; errors, votes, comparisons."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.benchmarks import small
from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import mean_over
from seethink.eval.bench.grades import Graded
from seethink.eval.bench.statistics import bench_score, difference, headline

LETTERS = "ABCD"


def score_of(name: str, items: Sequence[Item], right: Sequence[float] | np.ndarray) -> float:
    values = np.array(right, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    return float(headline(small(name).score(items, values))[0])


def figures_of(name: str, items: Sequence[Item], right: Sequence[float]) -> dict[str, float]:
    parts = small(name).score(items, np.array(right, dtype=float)[:, None])
    return {key: float(values[0]) for key, values in parts.figures.items()}


def wemath_items(groups: Sequence[int]) -> list[Item]:
    """Groups of so many steps, each with its problem."""
    return [
        Item(f"{g}/{part}", "", "A", choices=tuple(LETTERS), category=f"S{size}" if part == "multi" else "S1",
             groups={"steps": str(g), "part": part})
        for g, size in enumerate(groups)
        for part in [*map(str, range(1, size + 1)), "multi"]
    ]  # fmt: skip


def official_wemath(items: Sequence[Item], right: Sequence[bool]) -> tuple[float, float]:
    """(strict, loose) by the published formula: deductions from the number of groups."""
    groups: dict[str, list[tuple[str, bool]]] = {}
    for item, one in zip(items, right, strict=True):
        groups.setdefault(item.groups["steps"], []).append((item.groups["part"], one))
    ig = ik = rm_strict = rm_loose = 0
    for members in groups.values():
        steps = [one for part, one in members if part != "multi"]
        multi = next(one for part, one in members if part == "multi")
        ig += all(steps) and not multi
        ik += not all(steps) and not multi
        rm_strict += not all(steps) and multi
        rm_loose += not any(steps) and multi
    n = len(groups)
    return (n - 0.5 * ig - ik - rm_strict) / n, (n - 0.5 * ig - ik - rm_loose) / n


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([2, 3]), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_wemath_is_the_published_formula(sizes: list[int], rng: random.Random) -> None:
    items = wemath_items(sizes)
    right = [rng.random() < 0.6 for _ in items]
    strict, loose = official_wemath(items, right)
    assert score_of("wemath", items, right) == pytest.approx(strict)
    assert figures_of("wemath", items, right)["loose"] == pytest.approx(loose)
    order = list(range(len(items)))
    rng.shuffle(order)
    shuffled = score_of("wemath", [items[i] for i in order], [right[i] for i in order])
    assert shuffled == pytest.approx(strict)


def test_wemath_by_hand() -> None:
    items = wemath_items([2, 2, 2, 3])
    # complete mastery; inadequate generalisation; rote memorisation; insufficient knowledge
    right = [1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 0]
    assert score_of("wemath", items, right) == pytest.approx((1 + 0.5) / 4)
    found = figures_of("wemath", items, right)
    assert [found[f"{name} strict"] for name in ("CM", "IG", "RM", "IK")] == [0.25] * 4
    assert (found["RM rate strict"], found["CM loose"], found["loose"]) == (0.5, 0.5, 0.625)
    assert (found["S2"], found["S3"]) == (pytest.approx(2 / 3), 0.0)
    wrong = [0.0] * len(items)
    assert score_of("wemath", items[:3], wrong[:3]) == 0.0  # the published code gives a lone wrong group 99.8%
    assert math.isnan(figures_of("wemath", items, wrong)["RM rate strict"])


def test_wemath_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="group 0 has 1 steps and 1 problems"):
        score_of("wemath", wemath_items([2])[1:], [1, 1])


def hallusion_items(sets: int = 2, figures: int = 2, questions: int = 2) -> list[Item]:
    return [
        Item(f"{s}/{f}/{q}", "", "Yes" if (f + q) % 2 else "No", options=2, category="VD ocr",
             groups={"set": f"{s}", "figure": f"{s}/{f}", "question": f"{s}/q{q}"})
        for s in range(sets) for f in range(figures) for q in range(questions)
    ]  # fmt: skip


def test_hallusionbench_by_hand() -> None:
    items = hallusion_items()
    right = [1, 1, 1, 0, 1, 1, 1, 1]  # one wrong: its figure and its question fall with it
    found = figures_of("hallusionbench", items, right)
    assert (found["aAcc"], found["fAcc"], found["qAcc"]) == (0.875, 0.75, 0.75)
    assert score_of("hallusionbench", items, right) == pytest.approx((0.875 + 0.75 + 0.75) / 3)
    assert chance.coin(items) == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def mmbench_items(questions: int = 3, rotations: int = 4) -> list[Item]:
    return [
        Item(str(q + r * 1_000_000), "", LETTERS[r], choices=tuple(LETTERS), category="c", groups={"question": str(q)})
        for q in range(questions)
        for r in range(rotations)
    ]


def test_mmbench_by_hand() -> None:
    items = mmbench_items()
    right = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert score_of("mmbench", items, right) == pytest.approx(1 / 3)
    assert figures_of("mmbench", items, right)["plain accuracy"] == pytest.approx(7 / 12)
    always_a = [item.gold == "A" for item in items]
    assert score_of("mmbench", items, always_a) == 0.0
    assert chance.circular(items) == pytest.approx(0.25**4)


def pro_items(n: int = 4) -> list[Item]:
    return [
        Item(f"{variant}/{q}", "", "A", choices=tuple("ABCDEFGHIJ"[:size]), category=variant,
             groups={"question": str(q), "variant": variant})
        for variant, size in (("standard 10", 10), ("vision", 10), ("standard 4", 4))
        for q in range(n)
    ]  # fmt: skip


def test_mmmu_pro_is_the_mean_of_ten_options_and_vision() -> None:
    items = pro_items()
    right = [1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1]
    assert score_of("mmmu-pro", items, right) == pytest.approx((0.75 + 0.25) / 2)
    assert figures_of("mmmu-pro", items, right)["standard 4"] == 1.0
    assert chance.mmmu_pro(items) == pytest.approx(0.1)


COMPOSITES = {
    "wemath": wemath_items([2, 3, 2]), "hallusionbench": hallusion_items(), "mmbench": mmbench_items(),
    "mmmu-pro": pro_items(), "logicvista": [Item(str(i), "", "A", category="c") for i in range(9)],
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITES)
def test_all_right_is_100_all_wrong_0_and_order_does_not_matter(name: str) -> None:
    items = COMPOSITES[name]
    assert score_of(name, items, [1] * len(items)) == pytest.approx(1.0)
    assert score_of(name, items, [0] * len(items)) == 0.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        right = rng.integers(0, 2, len(items)).astype(float)
        order = rng.permutation(len(items))
        shuffled = score_of(name, [items[i] for i in order], right[order])
        assert shuffled == pytest.approx(score_of(name, items, right))
        more = np.maximum(right, rng.integers(0, 2, len(items)))
        if name not in (
            "wemath",
        ):  # more right answers can turn mastery's classes, but never lower the score elsewhere
            assert score_of(name, items, more) >= score_of(name, items, right) - 1e-12


def test_what_is_not_known_is_left_out() -> None:
    assert mean_over(np.array([[1.0, math.nan], [0.0, math.nan]])).tolist()[0] == 0.5
    items = mmbench_items(2, 2)
    # of the first question one rotation is unknown; the second is wrong whatever its unknown rotation is
    assert score_of("mmbench", items, [1, math.nan, 0, math.nan]) == 0.0


# ---- numbers of one benchmark ----


def graded(right: float, *, extracted: str = "B", finish: str = "stop", by: str = "rule", tokens: int = 10) -> Graded:
    verdict = {1.0: "correct", 0.0: "wrong"}.get(right, "error")
    if right == 0 and not extracted:
        verdict = "no_answer"
    return Graded("k", "g", "i", 0, verdict, by, extracted or None, "", finish, tokens)


def plain(n: int) -> tuple[Benchmark, list[Item]]:
    return small("logicvista"), [Item(str(i), "", "A", options=4, category="c") for i in range(n)]


def test_the_numbers_of_a_benchmark() -> None:
    benchmark, items = plain(4)
    grades = [
        [graded(1, extracted="A"), graded(1, extracted="A", by="verifier"), graded(0)],
        [graded(0), graded(0), graded(1, extracted="A")],
        [graded(0, extracted="", finish="length"), graded(0), graded(0, extracted="C")],
        [graded(1, extracted="A"), None, graded(math.nan)],
    ]
    score = bench_score(benchmark, items, grades, whole=True)
    assert score.run_scores == (0.5, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert score.score == pytest.approx(np.mean(score.run_scores))
    assert score.run_sd == pytest.approx(np.std(score.run_scores, ddof=1))
    assert (score.pass_at_k, score.majority_at_k) == (0.75, 0.5)
    assert (score.unscored, score.unscored_share) == (2, pytest.approx(2 / 12))
    assert (score.no_answer, score.truncated) == (pytest.approx(1 / 11), pytest.approx(1 / 11))
    assert (score.by_verifier, score.mean_tokens, score.chance, score.paper) == (0.25, 10, 0.25, 59.7)


def test_a_tied_vote_counts_in_part() -> None:
    benchmark, items = plain(2)
    tied = [[graded(1, extracted="A"), graded(0, extracted="C")], [graded(0, extracted="C"), graded(0, extracted="c.")]]
    assert bench_score(benchmark, items, tied, whole=True).majority_at_k == 0.25


def test_the_standard_error_is_over_items_not_over_answers() -> None:
    benchmark, items = plain(400)
    rng = np.random.default_rng(0)
    of_item = (rng.random(400) < 0.6).astype(float)
    grades = [[graded(float(one))] * 5 for one in of_item]  # five equal runs know no more than one
    score = bench_score(benchmark, items, grades, whole=True)
    assert score.stderr == pytest.approx(of_item.std(ddof=1) / 20, rel=0.06)
    assert score.low < score.score < score.high


def test_groups_widen_the_error_of_composites() -> None:
    items = hallusion_items(sets=60)
    rng = np.random.default_rng(1)
    easy = np.repeat(rng.random(60) < 0.5, 4).astype(float)  # a set is right or wrong as a whole
    grades = [[graded(one)] for one in easy]
    score = bench_score(small("hallusionbench"), items, grades, whole=True)
    assert score.stderr == pytest.approx(math.sqrt(score.score * (1 - score.score) / 60), rel=0.1)


# ---- two models ----


def test_one_point_on_mmmu_is_noise_and_ten_points_are_not() -> None:
    benchmark = small("mmmu")
    items = [Item(str(i), "", "A", choices=tuple(LETTERS), category="Math") for i in range(900)]
    rng = np.random.default_rng(2)
    ability = rng.beta(2, 1, 900)[:, None]
    a = (rng.random((900, 5)) < ability).astype(float)
    b = a.copy()
    flips = rng.permutation(900)[:120]
    b[flips] = (rng.random((120, 5)) < ability[flips]).astype(float)
    near = difference(benchmark, items, a, b)
    assert abs(near.value) < 0.015
    assert near.is_noise
    assert near.p > 0.05
    worse = (rng.random((900, 5)) < ability * 0.87).astype(float)
    far = difference(benchmark, items, a, worse)
    assert far.value > 0.05
    assert not far.is_noise
    assert far.p < 0.01
    back = difference(benchmark, items, worse, a)
    assert back.value == pytest.approx(-far.value)


def test_an_answer_that_one_model_lacks_counts_for_neither() -> None:
    benchmark, items = plain(40)
    rng = np.random.default_rng(3)
    a, b = ((rng.random((40, 2)) < share).astype(float) for share in (0.8, 0.3))
    b[5, 1], b[9] = math.nan, math.nan
    whole = [n for n in range(40) if n not in (5, 9)]
    found = difference(benchmark, items, a, b)
    alone = difference(benchmark, [items[n] for n in whole], a[whole], b[whole])
    assert found.n == 38
    assert (found.value, found.low, found.high, found.p) == (alone.value, alone.low, alone.high, alone.p)
    nothing = difference(benchmark, items, a, np.full((40, 2), math.nan))
    assert (nothing.n, nothing.verdict) == (0, "too few items")


def test_no_right_answer_among_few_has_an_error() -> None:
    """Of 30 wrong answers: at most 1 - 0.025 ** (1 / 30) = 11.6% by Clopper and Pearson; never an error of 0."""
    benchmark, items = plain(30)
    for right in (0.0, 1.0):
        score = bench_score(benchmark, items, [[graded(right)] for _ in items], whole=True)
        assert score.stderr == pytest.approx(math.sqrt(2 / 34 * 32 / 34 / 34))
        assert (score.high if right == 0 else 1 - score.low) == pytest.approx(0.1157, abs=1e-4)


def test_a_model_against_itself_is_no_difference() -> None:
    benchmark, items = plain(50)
    right = np.random.default_rng(3).integers(0, 2, (50, 2)).astype(float)
    same = difference(benchmark, items, right, right)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
