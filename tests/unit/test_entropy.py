"""Entropy statistics of groups of tokens, against values worked out by hand."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.small_tokenizers import small_tokenizer
from seethink.core.types import Completion, Grade, Verdict
from seethink.entropy.critical import mark
from seethink.entropy.meter import EntropyMeter, Estimate, Response, Tokens, group_stats, tail_threshold

WORDS = ("Wait", "But")
NAN = math.nan


def tokens() -> Tokens:
    """Three responses to two prompts. Critical: " Wait" of 2 nats, "But" of 4; the windows have two tokens."""
    first = ["so", " Wait", ",", " it", " is", " 4"]
    second = ["But", " 7", "."]
    return Tokens.of(
        [
            Response(0, [1.0, 2.0, 0.5, 0.5, 0.0, 1.0], mark(first, WORDS, 2), [0.2] * 6, Verdict.CORRECT),
            Response(1, [4.0, 3.0, 2.0], mark(second, WORDS, 2), [0.6, NAN, NAN], Verdict.NO_ANSWER),
            Response(1, [6.0], mark([" 9"], WORDS, 2), [], Verdict.ERROR),
        ],
        2,
    )


def test_groups_by_hand() -> None:
    groups = group_stats(tokens(), threshold=2.5)
    means = {name: group.sketch.mean for name, group in groups.items()}
    assert means["all"] == pytest.approx(2.0)
    assert means["critical"] == pytest.approx((2.0 + 4.0) / 2)
    assert means["following"] == pytest.approx((0.5 + 0.5 + 3.0 + 2.0) / 4)
    assert means["correct"] == pytest.approx(5.0 / 6)
    assert means["wrong"] == pytest.approx(3.0), "no answer is wrong; an error is neither"
    counts = {name: group.sketch.count for name, group in groups.items()}
    assert [counts[f"position_{i}"] for i in range(10)] == [3, 1, 0, 2, 0, 1, 2, 0, 1, 0]
    assert sum(counts[f"position_{i}"] for i in range(10)) == counts["all"] == 10
    assert groups["all"].tail.mean == pytest.approx(3 / 10)
    assert groups["critical"].tail.mean == pytest.approx(1 / 2)
    assert math.isnan(groups["position_9"].tail.mean)


def test_standard_errors_are_of_prompts() -> None:
    """Entropies of prompt 0 sum to 5 over 6 tokens, of prompt 1 to 15 over 4: mean 2, residuals -7 and 7, over 10."""
    estimate = group_stats(tokens(), 2.5)["all"].estimate
    assert estimate.sums.tolist() == [5.0, 15.0]
    assert estimate.counts.tolist() == [6, 4]
    assert estimate.se == pytest.approx(math.sqrt(2 / 1 * (0.7**2 + 0.7**2)))
    assert math.isnan(group_stats(tokens(), 2.5)["correct"].estimate.se), "one prompt says nothing of others"


def test_the_standard_error_is_the_spread_of_means_over_fresh_prompts() -> None:
    """Tokens of a prompt share its level, so that their number says little: 40 prompts of 10 to 30 tokens, redrawn."""
    rng = np.random.default_rng(0)

    def draw() -> Estimate:
        counts = rng.integers(10, 31, 40)
        prompts = np.repeat(np.arange(40), counts)
        entropies = 2 * rng.random(40)[prompts] + rng.random(len(prompts))
        sums = np.bincount(prompts, weights=entropies, minlength=40)
        return Estimate(sums, counts)

    drawn = [draw() for _ in range(1500)]
    spread = float(np.std([e.mean for e in drawn]))
    assert math.sqrt(np.mean([e.se**2 for e in drawn])) == pytest.approx(spread, rel=0.06)


def test_critical_mass_is_of_sentence_starts_that_were_measured() -> None:
    mass = tokens().critical_mass()
    assert mass.counts.tolist() == [1, 1]
    assert mass.mean == pytest.approx((0.2 + 0.6) / 2)


def test_json_has_no_number_where_there_is_no_token() -> None:
    groups = {name: group.as_json() for name, group in group_stats(tokens(), 2.5).items()}
    assert groups["position_9"]["mean"] is groups["position_9"]["quantiles"]["p50"] is None
    assert groups["position_9"]["count"] == 0
    assert json.loads(json.dumps(groups, allow_nan=False)) == groups
    nothing = group_stats(Tokens.of([], 0), 1.0)
    assert all(group.as_json()["count"] == 0 for group in nothing.values())


def test_what_is_not_finite_is_left_out() -> None:
    marks = mark([" Wait", " a", " b"], WORDS, 1)
    broken = Tokens.of([Response(0, [NAN, 1.0, math.inf], marks), Response(1, [3.0], mark(["c"], (), 1))], 2)
    everything = group_stats(broken, 2.0)["all"]
    assert everything.sketch.count == everything.estimate.n == 2
    assert everything.sketch.mean == everything.estimate.mean == 2.0
    assert everything.tail.sums.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("nats", "vocabulary", "expected"),
    [(None, 150_000, 6.8), (None, 435, 3.96), (2.0, 150_000, 2.0), (2.0, 435, 2.0)],
)
def test_threshold(nats: float | None, vocabulary: int, expected: float) -> None:
    assert tail_threshold(nats, vocabulary, np.array([0.0, 1.0, 2.0, 3.0, 4.0, NAN])) == pytest.approx(expected)
    assert tail_threshold(None, 435, np.zeros(0)) == 6.8


def test_a_meter_reads_completions() -> None:
    tokenizer = small_tokenizer("bpe")
    chat: Any = SimpleNamespace(tokenizer=tokenizer)
    meter = EntropyMeter(chat, WORDS, 1)
    ids = tokenizer("so Wait", add_special_tokens=False)["input_ids"]
    values = [float(i) for i in range(len(ids))]
    grade = Grade(Verdict.CORRECT, "4", "test")
    completion = Completion(ids, values, values, "so Wait", False, 0, grade=grade, watched_mass=[0.5] * len(ids))
    found = meter.tokens([[], [completion]])
    assert found.size == 2
    assert found.prompts.tolist() == [1] * len(ids)
    assert found.critical.tolist() == [text.startswith(" W") for text in meter.texts(ids)]
    assert found.entropies[found.critical].tolist() == [float(meter.texts(ids).index(" Wait"))]
    assert found.masses.tolist() == [0.5] * len(ids)
    assert set(found.grades.tolist()) == {1}
