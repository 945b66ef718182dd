"""Statements that the image cannot be seen: labelled texts, spans, and what a reward and a filter make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seethink.coldstart.filters import verify_traces
from seethink.config import RewardConfig, SftConfig
from seethink.core.denials import denial_spans, hallucinations, normalise
from seethink.core.types import Completion, Sample
from seethink.rewards.rewarder import Rewarder

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "denials.jsonl").read_text(encoding="utf-8").splitlines()
]
TUNED = [case for case in CASES if "first_try" not in case]
UNSEEN = [case for case in CASES if "first_try" in case]
"""Written after the patterns; `first_try` says whether they were right before anything was changed for them."""
SAMPLE = Sample("a", "What is red?", images=(Image.new("RGB", (8, 8)),), answer="7")
DENIES = "<think>I can't see the image. so 7.</think>The answer is 7."
SEES = "<think>red is 7.</think>The answer is 7."


@pytest.mark.parametrize("case", TUNED, ids=lambda case: case["text"][:40])
def test_labelled(case: dict[str, Any]) -> None:
    assert len(denial_spans(case["text"])) == case["statements"]


def test_phrasings_that_were_not_tuned_on() -> None:
    """docs/hallucination.md has the counts of the first try; none of the statements about content is taken for one."""
    denials, others = ([c for c in UNSEEN if bool(c["statements"]) is kind] for kind in (True, False))
    assert len(denials) >= 50
    assert len(others) >= 45
    assert all(not denial_spans(case["text"]) for case in others)
    assert sum(bool(denial_spans(case["text"])) for case in denials) >= sum(case["first_try"] for case in denials)


def test_the_cases_are_many_and_of_both_kinds() -> None:
    texts = [case["text"] for case in CASES]
    assert len(set(texts)) == len(texts) >= 160
    assert {case["statements"] > 0 for case in TUNED} == {True, False}


def test_spans_hold_for_the_original_text() -> None:
    text = "Hmm… İ think\nI can’t see the image. Red is 3. 图片无法显示。 No image was attached!"
    assert [text[a:b] for a, b in denial_spans(text)] == [
        "I can’t see the image",
        "图片无法显示",
        "No image was attached",
    ]
    assert len(normalise(text)) == len(text)


@pytest.mark.parametrize(
    "text", ["", "image " * 20000, "I can't " * 20000, "no image " * 5000, "the " * 20000 + "image is not"]
)
def test_hostile_texts_are_quick(text: str) -> None:
    """Under the ten seconds after which a test counts as slow; quadratic patterns would take minutes."""
    assert isinstance(denial_spans(text), list)


def test_without_an_image_a_denial_is_true() -> None:
    assert hallucinations(SAMPLE, DENIES)
    assert not hallucinations(Sample("b", "What is red?", answer="7"), DENIES)


def test_the_reward_is_lower_by_the_penalty() -> None:
    def rewards(penalty: float) -> list[float]:
        completions = [Completion([1], [0.0], [0.0], text, False, 0) for text in (DENIES, SEES)]
        Rewarder(RewardConfig(hallucination_penalty=penalty)).score([(SAMPLE, c) for c in completions])
        return [c.reward for c in completions]

    assert rewards(0.0) == [1.0, 1.0]
    assert rewards(0.25) == [0.75, 1.0]


@pytest.mark.parametrize("drop", [True, False])
def test_traces_that_deny_are_dropped_where_asked(drop: bool) -> None:
    samples = [
        Sample(str(i), "What is red?", images=SAMPLE.images, answer="7", response=r)
        for i, r in enumerate((DENIES, SEES))
    ]
    samples.append(Sample("2", "What is red?", answer="7", response=DENIES))
    config = SftConfig(drop_hallucinated=drop)
    kept, report = verify_traces(samples, config, Rewarder(RewardConfig()).grade, lambda text: list(range(len(text))))
    assert [s.id for s in kept] == (["1", "2"] if drop else ["0", "1", "2"])
    assert report.dropped == ({"hallucinated": 1} if drop else {})
