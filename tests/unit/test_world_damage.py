"""World items whose picture is blank, cropped or absent, and traces that say that the image cannot be seen."""

from __future__ import annotations

import numpy as np
import pytest

from seethink.config import EvalConfig
from seethink.core.denials import denial_spans, hallucinations
from seethink.core.types import Sample, Verdict
from seethink.eval.tasks.source import eval_samples
from seethink.rewards.format import has_think_format
from seethink.rewards.grader import grade_batch
from seethink.world.make import parse_options, parse_source, world_samples

SIZE = 240


def world(options: str, source: str = "world:math,dice:traces") -> list[Sample]:
    return world_samples(source + options, "train", SIZE, 0)


def test_options() -> None:
    assert parse_source("world:math,dice:traces?image=crop") == (("math", "dice"), True)
    damage, _ = parse_options("world:all:traces?image=blank&share=0.1&denials=0.2")
    assert (damage.image, damage.share, damage.denials) == ("blank", 0.1, 0.2)
    for wrong, said in (
        ("?img=blank", "no option 'img'; choose from image, share, denials"),
        ("?image=dark", "choose from blank, crop, absent"),
        ("?share=2", "share='2': give a share from 0 to 1"),
        ("?denials=x", "denials='x'"),
    ):
        with pytest.raises(ValueError, match=said):
            world(wrong)
    with pytest.raises(ValueError, match="add ':traces'"):
        world("?denials=0.5", "world:math")


def test_the_rest_is_as_without_options() -> None:
    plain, touched = world(""), world("?image=blank&share=0.25&denials=0.2")
    same = [a.images == b.images and a.response == b.response for a, b in zip(plain, touched, strict=True)]
    assert 0.5 < np.mean(same) < 0.7, "(1 - 0.25) (1 - 0.2) of the items"
    assert [(s.id, s.answer, s.choices) for s in plain] == [(s.id, s.answer, s.choices) for s in touched]
    assert [s.response for s in touched] == [s.response for s in world("?image=blank&share=0.25&denials=0.2")]


def test_pictures() -> None:
    plain = world("", "world:math")
    for kind, size in (("blank", (56, 56)), ("crop", (28, 28))):
        for sample in world(f"?image={kind}", "world:math"):
            (image,) = sample.pictures()
            assert image.size == size
            assert sample.meta["image"] == kind
            assert (np.asarray(image).std(axis=(0, 1)).max() == 0) == (kind == "blank")
    for before, after in zip(plain, world("?image=absent", "world:math"), strict=True):
        assert after.images == ()
        assert after.question == f"In the image: {before.question}"


def test_denying_traces_are_well_formed_right_and_found() -> None:
    samples = world("?denials=0.3")
    denying = [s for s in samples if hallucinations(s, s.response or "")]
    assert len(denying) / SIZE == pytest.approx(0.3, abs=0.09)
    assert all(has_think_format(s.response or "") and len(denial_spans(s.response or "")) == 1 for s in denying)
    grades = grade_batch([(s.response or "", s.answer, None, s.choices or None) for s in denying])
    assert {grade.verdict for grade in grades} == {Verdict.CORRECT}
    starts = [denial_spans(s.response or "")[0][0] for s in denying]
    assert min(starts) < 15 < max(starts), "at once, or after a first line"


def test_where_the_picture_is_damaged_every_trace_says_so() -> None:
    samples = world("?image=crop&share=0.3")
    assert all(bool(denial_spans(s.response or "")) is ("image" in s.meta) for s in samples)


def test_evaluation_takes_the_options() -> None:
    samples = eval_samples(EvalConfig(data="world:math,dice?image=blank", size=3), 0)
    assert len(samples) == 6
    assert all(s.meta["image"] == "blank" for s in samples)


def test_traces_of_the_second_world_deny_too() -> None:
    plain, touched = (
        world_samples(f"world2:cold:traces?stage=coldstart&levels=1-4{options}", "train", SIZE, 0)
        for options in ("", "&denials=0.3")
    )
    assert [(s.id, s.answer, s.choices) for s in plain] == [(s.id, s.answer, s.choices) for s in touched]
    denying = [s for s in touched if hallucinations(s, s.response or "")]
    assert len(denying) / SIZE == pytest.approx(0.3, abs=0.09)
    assert all(a.response == b.response for a, b in zip(plain, touched, strict=True) if b not in denying)
    assert all(s.meta["turns"] == [] for s in denying)
    grades = grade_batch([(s.response or "", s.answer, None, s.choices or None) for s in denying])
    assert {grade.verdict for grade in grades} == {Verdict.CORRECT}
