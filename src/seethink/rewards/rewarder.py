"""The reward of a response: 0.8 accuracy + 0.2 format (paper 3.1), accuracy = rule OR verifier."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from seethink.config import RewardConfig
from seethink.core.denials import hallucinations
from seethink.core.errors import UserError
from seethink.core.types import Completion, Grade, Sample, Verdict
from seethink.rewards.format import has_think_format
from seethink.rewards.grader import grade_batch

if TYPE_CHECKING:
    from seethink.rewards.verifier.verifier import Verifier

GradeFn = Callable[[str, Sample], Grade]


class RewardError(UserError):
    """A reward that cannot be set up; the message says what to do."""


class Rewarder:
    """Grades responses; the same object grades evaluation, so that the two cannot drift apart."""

    def __init__(self, config: RewardConfig, *, run_folder: Path | None = None) -> None:
        self._config = config
        self._verifier = _open_verifier(config, run_folder)
        self._function = load_function(config.function) if config.function else None
        self._right = self._right_by_verifier = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._verifier is not None:
            self._verifier.close()

    def score(self, pairs: Sequence[tuple[Sample, Completion]]) -> None:
        """Grade each completion, and fill in grade, reward and reward_parts."""
        self.reward(pairs, self.grade([(sample, completion.text) for sample, completion in pairs]))

    def reward(self, pairs: Sequence[tuple[Sample, Completion]], grades: Sequence[Grade]) -> None:
        """Fill in grade, reward and reward_parts of each completion. An error leaves the reward NaN (masked).

        With `hallucination_penalty` a response to a visible image that denies to see it has so much less.
        """
        penalty = self._config.hallucination_penalty
        for (sample, completion), grade in zip(pairs, grades, strict=True):
            accuracy = _accuracy(grade)
            shape = float(has_think_format(completion.text))
            completion.grade = grade
            completion.reward_parts = {"accuracy": accuracy, "format": shape}
            completion.reward = self._config.accuracy_weight * accuracy + self._config.format_weight * shape
            if penalty and hallucinations(sample, completion.text):
                completion.reward -= penalty

    def grade(self, pairs: Sequence[tuple[Sample, str]]) -> list[Grade]:
        if self._function is not None:
            return [self._function(text, sample) for sample, text in pairs]
        grades = grade_batch([(text, s.answer, s.answer_type, s.choices or None) for s, text in pairs])
        return self._ask_verifier(pairs, grades) if self._verifier is not None else grades

    def metrics(self) -> dict[str, float]:
        """What the verifier did since the last call; empty without one."""
        if self._verifier is None:
            return {}
        metrics = dict(self._verifier.metrics())
        if self._right:
            metrics["reward/by_verifier"] = self._right_by_verifier / self._right
        self._right = self._right_by_verifier = 0
        return metrics

    def _ask_verifier(self, pairs: Sequence[tuple[Sample, str]], grades: list[Grade]) -> list[Grade]:
        """Only where the rule said no to something that was extracted."""
        from seethink.rewards.verifier.verifier import VerifyItem

        assert self._verifier is not None
        asked = [i for i, g in enumerate(grades) if g.verdict is Verdict.WRONG and g.extracted]
        items = [VerifyItem(pairs[i][0].question, pairs[i][0].answer, grades[i].extracted or "") for i in asked]
        for i, verdict in zip(asked, self._verifier.verify(items), strict=True):
            grades[i] = verdict if verdict is not None else grades[i]
        right = [i for i, grade in enumerate(grades) if grade.verdict is Verdict.CORRECT]
        self._right += len(right)
        self._right_by_verifier += len(set(right) & set(asked))
        return grades


def _accuracy(grade: Grade) -> float:
    return float("nan") if grade.verdict is Verdict.ERROR else float(grade.verdict is Verdict.CORRECT)


def _open_verifier(config: RewardConfig, run_folder: Path | None) -> Verifier | None:
    if config.verifier is None:
        return None
    from seethink.rewards.verifier.verifier import Verifier

    return Verifier(config.verifier, run_folder)


def load_function(path: str) -> GradeFn:
    """`module:function` -> the function `(response, sample) -> Grade`. Raises RewardError."""
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RewardError(f"reward.function={path!r}: {error}; it must be module:function, importable here") from None
    if not callable(function):
        raise RewardError(f"reward.function={path!r} is not a function")
    return function  # type: ignore[no-any-return]
