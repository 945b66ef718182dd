"""Verified traces: what is dropped, for which reason, and that the counts add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from seethink.coldstart.filters import verify_traces
from seethink.config import RewardConfig, SftConfig
from seethink.core.text_measures import repetition
from seethink.core.types import Grade, Sample, Verdict
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import world_samples

GOOD = "<think>red is 3. blue is 4. 3+4=7.</think>The answer is 7."
CONFIG = SftConfig(max_response_tokens=30, max_repetition=0.4)


def words(text: str) -> list[int]:
    """A tokenizer of words."""
    return [hash(word) for word in text.split()]


def grade(pairs: Sequence[tuple[Sample, str]]) -> list[Grade]:
    """Right where the text ends with the gold; `?` cannot be graded."""

    def one(sample: Sample, text: str) -> Verdict:
        if "?" in text:
            return Verdict.ERROR
        return Verdict.CORRECT if text.rstrip(".").endswith(sample.answer) else Verdict.WRONG

    return [Grade(one(sample, text), None, "") for sample, text in pairs]


def trace(response: str | None, answer: str = "7") -> Sample:
    return Sample(id="t", question="Q?", answer=answer, response=response)


def reason(response: str | None, answer: str = "7", config: SftConfig = CONFIG) -> str | None:
    """Why it is dropped, or None."""
    kept, report = verify_traces([trace(response, answer)], config, grade, words)
    assert report.read == 1
    assert len(kept) == report.kept == 1 - sum(report.dropped.values())
    return next(iter(report.dropped), None)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GOOD, None),
        ("<think>π is not Latin but fine, naïve too.</think>The answer is 7.", None),
        ("The answer is 7.", "bad_format"),
        ("<think></think>The answer is 7.", "bad_format"),
        ("<think>7", "bad_format"),
        ("", "bad_format"),
        (None, "bad_format"),
        ("<think>red is 3.</think>The answer is 8.", "wrong_answer"),
        ("<think>what?</think>The answer is 7.", "not_graded"),
        (f"<think>{' '.join(map(str, range(40)))}</think>The answer is 7.", "too_long"),
        ("<think>" + "Wait, let me check. " * 5 + "</think>The answer is 7.", "rambling"),
        ("<think>red is 3。 所以 blue is 4.</think>The answer is 7.", "language_mixed"),
        ("<think>красный is 3.</think>The answer is 7.", "language_mixed"),
    ],
)
def test_reasons(response: str | None, expected: str | None) -> None:
    assert reason(response) == expected


LATE_LOOP = "<think>" + " ".join(map(str, range(200))) + " Wait, no." * 30 + "</think>The answer is 7."


@pytest.mark.parametrize("loop", [LATE_LOOP, LATE_LOOP.replace("<think>", "<think>" + "So, so. " * 40)])
def test_a_loop_anywhere_is_rambling(loop: str) -> None:
    config = SftConfig(max_response_tokens=500, max_repetition=0.5)
    assert repetition(words(LATE_LOOP)) < 0.5, "little of the whole"
    assert reason(loop, config=config) == "rambling"
    assert reason(loop.replace(" Wait, no.", "").replace("So, so. ", ""), config=config) is None


@pytest.mark.parametrize(
    ("sample", "dropped"),
    [
        (Sample("t", "有几个红色的？", answer="7", response="<think>有七个。</think>7"), None),
        (Sample("t", "What does it say?", answer="七", response="<think>It says 七.</think>七"), None),
        (Sample("t", "Сколько?", answer="7", response="<think>Семь.</think>7"), None),
        (Sample("t", "Q?", answer="A", choices=("七", "八"), response="<think>七 is A.</think>A"), None),
        (Sample("t", "Сколько?", answer="7", response="<think>有七个。</think>7"), "language_mixed"),
        (Sample("t", "How many?", answer="7", response="<think>有七个。</think>7"), "language_mixed"),
    ],
)
def test_the_question_s_own_script_is_not_foreign(sample: Sample, dropped: str | None) -> None:
    _, report = verify_traces([sample], CONFIG, grade, words)
    assert next(iter(report.dropped), None) == dropped


def test_filters_can_be_turned_off() -> None:
    assert reason("The answer is 7.", config=SftConfig(require_think=False)) is None
    assert reason("<think>所以</think>The answer is 7.", config=SftConfig(latin_only=False)) is None


def test_a_caption_has_no_answer_to_check() -> None:
    config = SftConfig(require_think=False)
    assert reason("red is 3. blue is 4.", answer="", config=config) is None


def test_counts_add_up_and_grades_stay_with_their_samples() -> None:
    given = [
        trace("caption", answer=""),
        trace(GOOD),
        trace("<think>a</think>The answer is 8."),
        trace("no form 7"),
        trace(GOOD.replace("7", "9"), answer="9"),
        trace("<think>b</think>The answer is 1."),
    ]
    kept, report = verify_traces(given, CONFIG, grade, words)
    assert kept == [given[1], given[4]]
    assert (report.read, report.kept) == (6, 2)
    assert report.dropped == {"bad_format": 2, "wrong_answer": 2}
    assert report.kept + sum(report.dropped.values()) == report.read


def test_limits_are_inclusive() -> None:
    text = "<think>one two</think>The answer is 7."
    length = len(words(text))
    assert reason(text, config=SftConfig(max_response_tokens=length)) is None
    assert reason(text, config=SftConfig(max_response_tokens=length - 1)) == "too_long"


def test_the_worlds_teacher_is_verified() -> None:
    """The real grader on the world's traces: flaws go, in about the shares in which they were made."""
    samples = world_samples("world:all:traces", "train", 1200, 0)
    config = SftConfig(max_response_tokens=120, max_repetition=0.4)
    kept, report = verify_traces(samples, config, Rewarder(RewardConfig()).grade, words)
    assert report.dropped["wrong_answer"] == pytest.approx(0.15 * 1200, rel=0.25)
    assert report.dropped["rambling"] == pytest.approx(0.04 * 1200, rel=0.5)
    assert 0 < report.dropped["language_mixed"] <= 0.06 * 1200
    assert np.mean([s.difficulty == "hard" for s in kept]) == pytest.approx(1 / 3, abs=0.05)
