"""A task is asked, graded and scored with a generator that is handed in, and touches no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.rows import row, write_jsonl
from seethink.config import EvalConfig, RewardConfig
from seethink.core.types import Completion, Grade, Prompt, Sample, Verdict
from seethink.eval.runner import evaluate_modes, evaluate_task
from seethink.eval.task import Accuracy
from seethink.eval.tasks.source import SourceTask, eval_samples
from seethink.generate.protocol import Sampling
from seethink.rewards.rewarder import Rewarder


class Scripted:
    """Answers item i with the i-th text, every response alike, and remembers how it was asked."""

    def __init__(self, *texts: str) -> None:
        self.policy_version = 3
        self._texts = texts
        self.calls: list[tuple[int, Sampling, tuple[int, ...]]] = []

    def generate(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        sampling: Sampling,
        seed: tuple[int, ...],
        progress: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        self.calls.append((group_size, sampling, seed))
        return [
            [Completion([1, 2], [0.0] * 2, [0.0] * 2, text, text == "", self.policy_version) for _ in range(group_size)]
            for text, _ in zip(self._texts, prompts, strict=True)
        ]

    def load_weights(self, version: int) -> None:
        self.policy_version = version

    def close(self) -> None:
        pass


def item(number: int, domain: str) -> Sample:
    return Sample(id=str(number), question=f"What is {number} + 1?", answer=str(number + 1), domain=domain)


ITEMS = [item(0, "a"), item(1, "a"), item(2, "b"), item(3, "b")]
PROMPTS = [Prompt(sample, [1], {}) for sample in ITEMS]
RIGHT_BUT_LAST = ("<think>x</think>1", "<think>x</think>2", "<think>x</think>3", "")


def test_a_file_is_evaluated_whole_or_says_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [row(prompt=f"{i}?", domain="ab"[i % 2]) for i in range(520)])
    assert len(eval_samples(EvalConfig(data=str(path)), 0)) == 520
    assert "items are evaluated" not in capsys.readouterr().out
    assert len(eval_samples(EvalConfig(data=str(path), size=200), 0)) == 400
    assert f"{path}: 400 of 520 items are evaluated (at most 200 per domain)" in capsys.readouterr().out
    assert len(eval_samples(EvalConfig(data="world:math", size=3), 0)) == 3


def test_a_source_is_asked_graded_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = Scripted(*RIGHT_BUT_LAST)
    score = evaluate_task(
        SourceTask("sums", ITEMS), generator, PROMPTS, Rewarder(RewardConfig()), samples=2, max_new_tokens=7, seed=5
    )
    assert generator.calls == [(2, Sampling(7, 1.0), (5, 10**6))]
    assert (score.name, score.total.mode, score.accuracy, score.total.n) == ("sums", "avg@2", 0.75, 4)
    assert score.stderr == pytest.approx(0.25)
    assert (score.total.no_answer_rate, score.total.truncated_rate, score.total.format_rate) == (0.25, 0.25, 0.75)
    assert {domain: (s.accuracy, s.n) for domain, s in score.by_domain.items()} == {"a": (1.0, 2), "b": (0.5, 2)}
    assert score.responses[0][0].reward == pytest.approx(1.0), "the reward's parts are there for viewers"
    assert list(tmp_path.iterdir()) == []


def test_metrics_name_the_task_and_its_domains() -> None:
    both = evaluated(SourceTask("sums", ITEMS), PROMPTS, RIGHT_BUT_LAST).metrics()
    assert {key: both[key] for key in both if key.endswith("/accuracy")} == {
        "eval/sums/accuracy": 0.75,
        "eval/sums/a/accuracy": 1.0,
        "eval/sums/b/accuracy": 0.5,
    }
    one = evaluated(SourceTask("sums", ITEMS[:2]), PROMPTS[:2], RIGHT_BUT_LAST[:2]).metrics()
    assert one == {"eval/sums/accuracy": 1.0, "eval/sums/stderr": 0.0}


def evaluated(task: Any, prompts: list[Prompt], texts: Sequence[str]) -> Any:
    return evaluate_task(task, Scripted(*texts), prompts, Rewarder(RewardConfig()), samples=1, max_new_tokens=7)


@dataclass(frozen=True)
class Pairs:
    """Grades by its own rule, and counts two neighbours as one item: right where both are."""

    name: str
    samples: Sequence[Sample]

    def grade(self, responses: Sequence[tuple[Sample, str]], rewarder: Rewarder) -> list[Grade]:
        return [Grade(Verdict.CORRECT if text == "yes" else Verdict.WRONG, text, "own rule") for _, text in responses]

    def score(self, samples: Sequence[Sample], grades: Sequence[Sequence[Grade]]) -> Accuracy:
        right = [own[0].verdict is Verdict.CORRECT for own in grades]
        both = [a and b for a, b in zip(right[::2], right[1::2], strict=True)]
        return Accuracy(sum(both) / len(both), 0.0, len(both))


def test_a_task_may_grade_and_score_in_its_own_way() -> None:
    score = evaluated(Pairs("pairs", ITEMS), PROMPTS, ("yes", "yes", "no", "yes"))
    assert (score.accuracy, score.total.n) == (0.5, 2)
    assert [score.by_domain[domain].accuracy for domain in "ab"] == [1.0, 0.0]
    assert score.responses[0][0].reward_parts["accuracy"] == 1.0


def test_modes_of_a_recipe() -> None:
    config, generator = EvalConfig(samples=3, greedy=True, max_new_tokens=9), Scripted(*RIGHT_BUT_LAST)
    task = SourceTask("sums", ITEMS)
    scores = evaluate_modes(task, generator, PROMPTS, Rewarder(RewardConfig()), config, label="x")
    assert [score.total.mode for score in scores] == ["avg@3", "greedy"]
    assert [(k, sampling.temperature) for k, sampling, _ in generator.calls] == [(3, 1.0), (1, 0.0)]
