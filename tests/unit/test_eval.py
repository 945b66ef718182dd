"""Accuracy and its standard error, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from seethink.config import EvalConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion, Grade, Sample, Verdict
from seethink.eval.presentation import item_record, score_table, spread
from seethink.eval.runner import mode_name, sampling_modes
from seethink.eval.score import Score, score_responses
from seethink.eval.tasks.source import SourceTask, eval_samples, source_name

FORMED, BARE = "<think>a</think>7", "7"


def completion(verdict: Verdict, *, tokens: int = 4, text: str = FORMED) -> Completion:
    accuracy = math.nan if verdict is Verdict.ERROR else float(verdict is Verdict.CORRECT)
    made = Completion([1] * tokens, [0.0] * tokens, [0.0] * tokens, text, False, 0)
    made.grade = Grade(verdict, None, "")
    made.reward_parts = {"accuracy": accuracy, "format": 1.0}
    return made


def sample(domain: str = "math", difficulty: str = "easy") -> Sample:
    return Sample(id="s", question="Q?", answer="7", domain=domain, difficulty=difficulty)


def scores_of(samples: list[Sample], groups: list[list[Completion]], mode: str) -> tuple[Score, ...]:
    """By domain, and by domain and difficulty."""
    return score_responses(SourceTask("t", samples), groups, mode).parts


RIGHT, WRONG, NONE, ERROR = Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.ERROR


def scored(*items: list[Verdict]) -> Score:
    """The score of one domain and difficulty."""
    groups = [[completion(v) for v in verdicts] for verdicts in items]
    scores = scores_of([sample()] * len(items), groups, "avg@2")
    assert [s.difficulty for s in scores] == ["all", "easy"]
    assert {s.accuracy for s in scores} == {scores[0].accuracy} or math.isnan(scores[0].accuracy)
    return scores[0]


def test_mean_and_standard_error_over_items() -> None:
    """Item means 1, 0.5, 0, 0.5: mean 0.5, sample variance 1/6, standard error sqrt(1/6/4)."""
    score = scored([RIGHT, RIGHT], [RIGHT, WRONG], [WRONG, NONE], [WRONG, RIGHT])
    assert score.n == 4
    assert score.accuracy == pytest.approx(0.5)
    assert score.stderr == pytest.approx(math.sqrt(1 / 6 / 4))
    assert score.no_answer_rate == pytest.approx(1 / 8)
    assert score.unscored == 0


def test_what_cannot_be_graded_is_left_out_not_wrong() -> None:
    score = scored([RIGHT, ERROR], [ERROR, ERROR], [WRONG, WRONG])
    assert score.n == 2
    assert score.accuracy == pytest.approx(0.5)
    assert score.unscored == 3


def test_too_few_items_for_an_error() -> None:
    assert math.isnan(scored([RIGHT, RIGHT]).stderr)
    nothing = scored([ERROR, ERROR])
    assert nothing.n == 0
    assert math.isnan(nothing.accuracy)


def test_lengths_and_form() -> None:
    groups = [[completion(RIGHT, tokens=3), completion(RIGHT, tokens=5, text=BARE)], [completion(WRONG, tokens=10)] * 2]
    score = scores_of([sample()] * 2, groups, "avg@2")[0]
    assert score.mean_tokens == pytest.approx(7.0)
    assert score.format_rate == pytest.approx(0.75)


def test_domains_and_difficulties_are_kept_apart() -> None:
    samples = [sample("math", "easy"), sample("math", "hard"), sample("dice", "easy")]
    groups = [[completion(RIGHT)], [completion(WRONG)], [completion(RIGHT)]]
    found = {(s.domain, s.difficulty): (s.accuracy, s.n) for s in scores_of(samples, groups, "greedy")}
    assert found == {
        ("math", "all"): (0.5, 2),
        ("math", "easy"): (1.0, 1),
        ("math", "hard"): (0.0, 1),
        ("dice", "all"): (1.0, 1),
        ("dice", "easy"): (1.0, 1),
    }


def test_modes() -> None:
    def modes(config: EvalConfig) -> list[tuple[str, int, float]]:
        return [(mode_name(*mode), *mode) for mode in sampling_modes(config)]

    assert modes(EvalConfig(samples=4)) == [("avg@4", 4, 1.0), ("greedy", 1, 0.0)]
    assert modes(EvalConfig(samples=0)) == [("greedy", 1, 0.0)]
    assert modes(EvalConfig(samples=1, greedy=False)) == [("avg@1", 1, 1.0)]


def test_stored_groups_arespread() -> None:
    assert spread(100, 5) == [0, 24, 49, 74, 99]
    assert spread(3, 24) == [0, 1, 2]
    assert spread(1, 24) == [0]


def test_the_table_shows_every_domain_and_mode() -> None:
    samples, groups = [sample(), sample("dice")], [[completion(RIGHT)], [completion(WRONG)]]
    table = score_table(scores_of(samples, groups, "greedy"))
    assert table.row_count == 2


def test_items_per_world_domain() -> None:
    samples = eval_samples(EvalConfig(data="world:math,dice", size=5), seed=0)
    assert [s.domain for s in samples] == ["math"] * 5 + ["dice"] * 5
    assert all("-test-" in s.id for s in samples)


def test_items_per_domain_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"prompt": f"q{i}", "answer": "1", "domain": "ab"[i % 2]} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = eval_samples(EvalConfig(data=str(path), size=3), seed=0)
    assert [s.question for s in samples] == ["q0", "q2", "q4", "q1", "q3", "q5"]


def test_an_item_without_a_gold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"prompt": "q", "response": "r"}) + "\n")
    with pytest.raises(UserError, match="in every row seethink columns need a non-empty 'answer'"):
        eval_samples(EvalConfig(data=str(path)), seed=0)


def test_an_item_record_is_the_mean_of_what_could_be_graded() -> None:
    group = [completion(RIGHT, tokens=2), completion(WRONG, tokens=4), completion(ERROR, tokens=9)]
    record = item_record(sample("dice", "hard"), group, "avg@3")
    assert record == {
        "id": "s", "domain": "dice", "difficulty": "hard", "mode": "avg@3", "accuracy": 0.5, "tokens": 5.0,
    }  # fmt: skip
    assert item_record(sample(), [completion(ERROR)], "avg@1")["accuracy"] is None


def test_names_of_sources() -> None:
    names = ["all", "math,dice", "geometry", "name"]
    sources = ["world:all:traces", "world:math,dice?image=blank", "data/geometry.parquet", "org/name"]
    assert [source_name(source) for source in sources] == names
