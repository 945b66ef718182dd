"""The blindness guard without a model: statistics on hand-computed numbers, swapped pictures, the four checks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.nano import make_samples, nano_recipe
from seethink.config import Recipe
from seethink.core.types import Completion, Sample
from seethink.data.control_images import GREY, blanked, derangement, swapped
from seethink.data.quarantine import Quarantine
from seethink.models.load import load_model
from seethink.report.blindness import sight
from seethink.report.load import Stage
from seethink.train.hooks.blindness import hold_out, read_records
from seethink.train.hooks.blindness_verdict import KINDS, View, judge, paired, summary

NAN = math.nan


def test_paired_by_hand() -> None:
    """Differences 1, 3, 5, 3: mean 3, variance 8/3, standard error sqrt(2/3)."""
    found = paired(np.array([2.0, 3.0, 5.0, 4.0]), np.array([1.0, 0.0, 0.0, 1.0]))
    assert (found.gap, found.n) == (3.0, 4)
    assert found.t == pytest.approx(3 / math.sqrt(2 / 3))


@pytest.mark.parametrize(
    ("ours", "theirs", "gap", "t", "n"),
    [
        ([1.0, 1.0], [0.0, 0.0], 1.0, math.inf, 2),
        ([0.0, 0.0], [1.0, 1.0], -1.0, -math.inf, 2),
        ([1.0, 1.0], [1.0, 1.0], 0.0, 0.0, 2),
        ([1.0, NAN, 0.0], [0.0, 0.0, NAN], NAN, NAN, 1),
        ([2.0, NAN, 4.0], [1.0, 9.0, 1.0], 2.0, 2.0, 2),
        ([], [], NAN, NAN, 0),
    ],
)
def test_paired_at_the_edges(ours: list[float], theirs: list[float], gap: float, t: float, n: int) -> None:
    found = paired(np.array(ours), np.array(theirs))
    assert found.n == n
    assert [found.gap, found.t] == pytest.approx([gap, t], nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=30), st.integers(0, 5))
def test_nobody_gets_an_equal_picture(samples: list[tuple[int, int]], seed: int) -> None:
    digests = [str(picture) for picture, _ in samples]
    sizes = [((size, size),) for _, size in samples]
    for i, partner in enumerate(derangement(digests, sizes, (seed,))):
        others = [j for j in range(len(samples)) if digests[j] != digests[i]]
        if partner is None:
            assert not others
            continue
        assert digests[partner] != digests[i]
        alike = [j for j in others if sizes[j] == sizes[i]]
        assert sizes[partner] == sizes[i] or not alike, "the same size wherever there is one"


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30))
def test_where_no_picture_has_the_majority_each_serves_once(pictures: list[int]) -> None:
    digests = [str(p) for p in pictures]
    if max(map(digests.count, digests)) * 2 <= len(digests):
        partners = derangement(digests, [((1, 1),)] * len(digests), (0,))
        assert sorted(p for p in partners if p is not None) == list(range(len(digests)))


def test_the_swap_is_a_function_of_the_seed() -> None:
    samples = make_samples([1] * 12)
    first, again, other = (swapped(samples, seed) for seed in ((0, 1), (0, 1), (1, 1)))
    assert [s and s.images for s in first] == [s and s.images for s in again]
    assert [s and s.images for s in first] != [s and s.images for s in other]
    assert [s.question for s in first if s] == [s.question for s in samples]


def test_equal_pictures_in_other_objects_are_equal() -> None:
    picture = make_samples([1])[0].images[0]
    same = [Sample(str(i), "?", (picture.copy(),), "1") for i in range(3)]
    assert swapped(same, (0,)) == [None, None, None]
    other = Sample("x", "?", make_samples([1, 1])[1].images, "1")
    assert [s.images == other.images for s in swapped([*same, other], (0,)) if s] == [True, True, True, False]


def test_only_as_many_pictures_are_swapped_in() -> None:
    two, one = make_samples([2, 1])
    assert swapped([two, one], (0,)) == [None, None]


def test_blank_pictures_are_grey_and_of_the_same_sizes() -> None:
    sample = Sample("x", "?", (Image.new("RGB", (30, 20)), Image.new("RGB", (7, 9), "red")), "1")
    blank = blanked(sample)
    assert [i.size for i in blank.images] == [(30, 20), (7, 9)]
    assert {color for i in blank.images for _, color in i.getcolors()} == {GREY}
    assert sample.images[1].getpixel((0, 0)) == (255, 0, 0)


def completion(tokens: list[int], logprobs: list[float]) -> Completion:
    return Completion(tokens, logprobs, [0.5] * len(tokens), "", False, 0)


def view(logprob: float, accuracy: float, count: int = 40, *, spread: float = 0.3, seed: int = 0) -> View:
    """`count` samples around a mean log-prob, a share of them right."""
    noise = np.random.default_rng(seed).normal(0, spread, count)
    right = [1.0] * round(accuracy * count)
    return View(
        [np.array([logprob + x]) for x in noise],
        [completion([1, 2], [logprob, logprob + x]) for x in noise],
        right + [0.0] * (count - len(right)),
    )


def views(**kinds: View) -> dict[str, View]:
    return {kind: kinds[kind] for kind in KINDS}


def test_a_model_that_sees() -> None:
    found = judge(
        views(true=view(-1, 0.5), blank=view(-2, 0.2, seed=1), shuffled=view(-2, 0.2, seed=2)), 1e-7, "float32"
    )
    assert (found.verdict, found.failed, found.notes) == ("sees", [], [])
    m = found.metrics
    assert m["blindness/accuracy_true"] == 0.5
    assert m["blindness/accuracy_gap_blank"] == pytest.approx(0.3)
    assert m["blindness/logprob_gap_shuffled"] == pytest.approx(1, abs=0.3)
    assert m["blindness/logprob_t_shuffled"] > 5
    assert m["blindness/samples"] == 40


@pytest.mark.parametrize(
    ("true", "blank", "shuffled", "sees"),
    [
        (view(-1, 0.2), view(-2, 0.2, seed=1), view(-2, 0.2, seed=2), True),
        (view(-1, 0.6), view(-1, 0.2, seed=1), view(-1, 0.2, seed=2), True),
        (view(-1, 0.2), view(-2, 0.2, seed=1), view(-1, 0.2, seed=2), False),
        (view(-1, 0.6), view(-2, 0.2, seed=1), view(-1, 0.6, seed=2), False),
        (view(-2, 0.2), view(-1, 0.6, seed=1), view(-1, 0.6, seed=2), False),
    ],
    ids=["by log-prob", "by accuracy", "better than a blank alone", "than a blank alone by both", "worse"],
)
def test_the_image_must_beat_both_others(true: View, blank: View, shuffled: View, sees: bool) -> None:
    found = judge(views(true=true, blank=blank, shuffled=shuffled), 0.0, "float32")
    assert found.failed == ([] if sees else ["image"])
    assert found.verdict == ("sees" if sees else "blind")


def test_lost_pixels_and_another_path() -> None:
    true, other = view(-1, 0.5), view(-3, 0.0, seed=1)
    same = judge(views(true=true, blank=true, shuffled=other), 0.0, "float32")
    assert same.failed == ["trainer", "decoder", "image"]
    assert same.verdict == "broken"
    assert judge(views(true=true, blank=other, shuffled=other), 2e-3, "float32").failed == ["path"]
    assert judge(views(true=true, blank=other, shuffled=other), 2e-3, "bfloat16").failed == []
    assert judge(views(true=true, blank=other, shuffled=other), NAN, "bfloat16").failed == ["path"]


def test_one_sample_that_moves_is_enough_for_the_pixels_to_arrive() -> None:
    true = view(-1, 0.5)
    blank = View([*true.gold[:-1], true.gold[-1] + 1e-3], list(true.completions), list(true.correct))
    assert judge(views(true=true, blank=blank, shuffled=blank), 0.0, "float32").failed == ["decoder", "image"]


def test_nothing_finite_is_no_sign_of_pixels() -> None:
    lost = View([np.array([NAN])] * 20, [completion([1], [NAN])] * 20, [0.0] * 20)
    lost.completions = [Completion([1], [NAN], [NAN], "", False, 0)] * 20
    assert {"trainer", "decoder"} <= set(judge(views(true=lost, blank=lost, shuffled=lost), NAN, "float32").failed)


def test_the_decoder_is_compared_up_to_the_first_other_token() -> None:
    """What follows another token differs for that reason alone."""
    true, blank = view(-1, 0.5, 20), view(-1, 0.5, 20)
    true.completions = [completion([5, 6, 7], [-0.1, -0.2, -9.0])] * 20
    blank.completions = [completion([5, 8, 7], [-0.1, -0.25, -1.0])] * 20
    metrics = judge(views(true=true, blank=blank, shuffled=blank), 0.0, "float32").metrics
    assert metrics["blindness/decoder_sensitivity"] == pytest.approx(0.05)


def test_too_few_samples_are_no_verdict_but_pixels_still_count() -> None:
    true = view(-1, 0.5, 8)
    found = judge(views(true=true, blank=view(-1, 0.5, 8, seed=1), shuffled=true), 0.0, "float32")
    assert (found.verdict, found.failed) == ("too few samples", [])
    assert judge(views(true=true, blank=true, shuffled=true), 0.0, "float32").verdict == "broken"


def test_without_another_picture_the_blank_alone_decides_and_that_is_said() -> None:
    none = View([np.empty(0)] * 40, [None] * 40, [NAN] * 40)
    found = judge(views(true=view(-1, 0.5), blank=view(-2, 0.1, seed=1), shuffled=none), 0.0, "float32")
    assert found.verdict == "sees"
    assert "blank one alone" in summary(0, found, "float32")
    assert not any("shuffled" in key for key in found.metrics)


def test_the_message_names_check_numbers_and_remedy() -> None:
    true = view(-1, 0.5)
    blind = judge(views(true=true, blank=view(-1, 0.5, seed=1), shuffled=view(-1, 0.5, seed=2)), 0.0, "float32")
    text = summary(50, blind, "float32")
    assert text.startswith("blindness guard, step 50: image check failed: the image does not matter")
    assert "40 held-out samples" in text
    assert "greedy accuracy true 0.500, blank 0.500 (t +0.0)" in text
    assert "blindness.action=warn" in text
    lost = summary(0, judge(views(true=true, blank=true, shuffled=true), 0.3, "float32"), "float32")
    for words in ("pixels do not reach the trainer", "pixels do not reach the decoder", "differ by 0.3 on average"):
        assert words in lost


# --- which samples are held out


def held_out_of(recipe: Recipe, samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    return hold_out(recipe, samples, load_model("nano").chat, Quarantine(None))


def mixed(count: int) -> list[Sample]:
    """Every second sample has a picture."""
    return make_samples([i % 2 for i in range(count)])


def test_of_a_file_the_first_with_images_are_held_out() -> None:
    samples = mixed(200)
    train, held = held_out_of(nano_recipe("x", "blindness.every=5", "blindness.samples=3"), samples)
    assert held == [s for s in samples if s.images][:12]
    assert train == [s for s in samples if s not in held]
    train, held = held_out_of(nano_recipe("x", "blindness.every=5"), samples)
    assert len(held) == 20, "at most a tenth"
    assert len(held_out_of(nano_recipe("x", "blindness.every=5", "data.val_size=7"), samples)[1]) == 7


@pytest.mark.parametrize("overrides", [[], ["blindness.every=5"]])
def test_nothing_is_held_out_of_text_or_without_the_guard(overrides: list[str]) -> None:
    samples = make_samples([0] * 100 if overrides else [1] * 100)
    assert held_out_of(nano_recipe("x", *overrides), samples) == (samples, [])


def test_the_world_has_a_split_of_its_own() -> None:
    samples = mixed(4)
    recipe = nano_recipe("x", "blindness.every=5", "blindness.samples=2", "data.train=world:math", "data.train_size=4")
    train, held = held_out_of(recipe, samples)
    assert train == samples
    assert [s.id.split("-")[1] for s in held] == ["val"] * 8


# --- records and report


def record(step: int, **changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step, "verdict": "sees", "failed": [], "notes": [], "stopped": False}
    values = {"true": 0.5, "blank": 0.25, "shuffled": 0.25}
    row |= {f"blindness/accuracy_{kind}": value for kind, value in values.items()}
    return row | {"blindness/accuracy_t_blank": 3.2} | changed


def test_the_report_says_what_was_found() -> None:
    stage = Stage("RL", Path())
    assert sight(stage) is None
    stage.blindness = [record(0), record(50)]
    section = sight(stage)
    assert section is not None
    assert not section.bad
    assert "At step 50, the last of 2 checks, the image matters; accuracy 50.0" in section.sentence
    assert "with a blank one (gap +3.2 se)" in section.sentence
    assert [figure.title for figure in section.figures] == ["Accuracy by picture"]
    stage.blindness = [
        record(0, verdict="blind", failed=["image"]),
        record(50, verdict="broken", failed=["path"], stopped=True),
    ]
    section = sight(stage)
    assert section is not None
    assert section.bad
    assert "loses or mixes up pixels (path check failed)" in section.sentence
    assert "stopped the run there. It had failed before, at step 0." in section.sentence


@pytest.mark.parametrize(
    "row",
    [
        {"step": "x"},
        {"step": 1},
        {"step": 1, "verdict": ["a"], "failed": 3},
        {"step": 1, "blindness/accuracy_true": "<b>"},
    ],
)
def test_damaged_records_do_not_break_the_report(row: dict[str, Any]) -> None:
    stage = Stage("RL", Path())
    stage.blindness = [row]
    section = sight(stage)
    assert section is None or section.figures == []


def test_a_half_written_record_is_left_out(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []
    (tmp_path / "blindness.jsonl").write_text('{"step": 0}\n{"step": 5')
    assert read_records(tmp_path) == [{"step": 0}]
