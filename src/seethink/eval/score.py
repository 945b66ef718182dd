"""Graded responses -> scores: of a whole task, and by domain and difficulty.

Letters: N items, k responses per item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seethink.core.types import Completion, Grade, Verdict
from seethink.eval.task import Task
from seethink.rewards.format import has_think_format

ALL = "all"


@dataclass(frozen=True, slots=True)
class Score:
    """Numbers over the items of one domain and difficulty, or of all of them (`"all"`)."""

    domain: str
    difficulty: str
    mode: str
    """`avg@k`, or `greedy`."""
    n: int
    """Items with at least one graded response."""
    accuracy: float
    """In [0, 1]."""
    stderr: float
    """Standard error of the accuracy over items; NaN below two items."""
    mean_tokens: float
    """Per response."""
    no_answer_rate: float
    """Share of responses in which no answer was found."""
    format_rate: float
    """Share of responses that think inside `<think>` and answer after it."""
    truncated_rate: float
    """Share of responses that the length limit ended."""
    unscored: int
    """Responses whose grade is an error: left out of the accuracy, not counted wrong."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The score of a task, of its parts, and the responses behind it."""

    name: str
    total: Score
    """Of all items."""
    parts: tuple[Score, ...]
    """One score per domain, and one per domain and difficulty."""
    responses: Sequence[Sequence[Completion]] = field(repr=False)
    """[N][k] Graded, in the order of the task's samples."""

    @property
    def accuracy(self) -> float:
        return self.total.accuracy

    @property
    def stderr(self) -> float:
        return self.total.stderr

    @property
    def by_domain(self) -> dict[str, Score]:
        return {score.domain: score for score in self.parts if score.difficulty == ALL}

    def metrics(self) -> dict[str, float]:
        """`eval/<task>/accuracy` and `eval/<task>/stderr`, and with several domains `eval/<task>/<domain>/...` too."""
        scores = {self.name: self.total}
        if len(self.by_domain) > 1:
            scores |= {f"{self.name}/{domain}": score for domain, score in self.by_domain.items()}
        accuracies = {f"eval/{name}/accuracy": score.accuracy for name, score in scores.items()}
        return accuracies | {f"eval/{name}/stderr": score.stderr for name, score in scores.items()}


def score_responses(task: Task, responses: Sequence[Sequence[Completion]], mode: str) -> TaskScore:
    """The scores of graded responses [N][k] to the samples of `task`."""
    keys = sorted({(s.domain, d) for s in task.samples for d in (ALL, s.difficulty)})
    parts = tuple(_score(task, responses, mode, domain, difficulty) for domain, difficulty in keys)
    return TaskScore(task.name, _score(task, responses, mode, ALL, ALL), parts, responses)


def _score(task: Task, responses: Sequence[Sequence[Completion]], mode: str, domain: str, difficulty: str) -> Score:
    chosen = [i for i, s in enumerate(task.samples) if domain in (ALL, s.domain) and difficulty in (ALL, s.difficulty)]
    samples, groups = [task.samples[i] for i in chosen], [responses[i] for i in chosen]
    grades = [[c.grade for c in group if c.grade is not None] for group in groups]
    accuracy, stderr, n = task.score(samples, grades)
    completions = [c for group in groups for c in group]
    verdicts = [grade.verdict for own in grades for grade in own]
    return Score(
        domain=domain,
        difficulty=difficulty,
        mode=mode,
        n=n,
        accuracy=accuracy,
        stderr=stderr,
        mean_tokens=_mean(len(c.token_ids) for c in completions),
        no_answer_rate=_mean(verdict is Verdict.NO_ANSWER for verdict in verdicts),
        format_rate=_mean(has_think_format(c.text) for c in completions),
        truncated_rate=_mean(c.truncated for c in completions),
        unscored=verdicts.count(Verdict.ERROR),
    )


def mean_accuracy(grades: Iterable[Grade | None]) -> float | None:
    """Mean accuracy of the graded responses, partial scores included; None where no response could be graded."""
    scores = [grade.accuracy for grade in grades if grade is not None and grade.verdict is not Verdict.ERROR]
    return math.fsum(scores) / len(scores) if scores else None


def item_accuracy(responses: Iterable[Completion]) -> float | None:
    """`mean_accuracy` of the responses to one item."""
    return mean_accuracy(c.grade for c in responses)


def _mean(values: Iterable[float]) -> float:
    array = np.fromiter(values, dtype=float)
    return float(array.mean()) if array.size else math.nan
