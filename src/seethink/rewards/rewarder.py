"""The reward of a response: 0.8 accuracy + 0.2 format (paper, section 3.1), where accuracy = rule OR verifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from seethink.config import RewardConfig
from seethink.core.denials import hallucinations
from seethink.core.types import Completion, Grade, Sample, Verdict
from seethink.rewards.format import has_think_format
from seethink.rewards.function import FunctionGrader
from seethink.rewards.golds import shown_gold
from seethink.rewards.grader import grade_batch

if TYPE_CHECKING:
    from seethink.rewards.verifier.verifier import Verifier


class Rewarder:
    """Grades responses. The same object grades evaluation, so that reward and evaluation cannot drift apart.

    Example:
        with Rewarder(RewardConfig()) as rewarder:
            grades = rewarder.grade([(sample, "<think>6 times 7</think> 42")])
    """

    def __init__(
        self, config: RewardConfig, *, run_folder: Path | None = None, function_folder: Path | None = None
    ) -> None:
        """A verifier keeps its verdicts in `run_folder`, or in memory without one.

        `function_folder`: where `reward.function` is looked for besides the import path. Raises RewardError where it
        cannot be loaded.
        """
        run_folder = Path(run_folder) if run_folder is not None else None
        function_folder = Path(function_folder) if function_folder is not None else None
        self._config = config
        self._function = FunctionGrader(config.function, function_folder) if config.function else None
        self._verifier = _open_verifier(config, run_folder)
        self._right = self._right_by_verifier = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What stored grades depend on besides the rules, for the keys of measurements; {} where rules alone grade."""
        settings = self._config.model_dump(mode="json", exclude_defaults=True)
        source = {"function_sha256": self._function.source_sha256} if self._function is not None else {}
        return {"reward": settings | source} if settings else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the verifier's requests and close its files; there is nothing to close without one."""
        if self._verifier is not None:
            self._verifier.close()

    def score(self, pairs: Sequence[tuple[Sample, Completion]]) -> None:
        """Grade each completion, and fill in grade, reward and reward_parts. Raises RewardError as `grade` does."""
        self.reward(pairs, self.grade([(sample, completion.text) for sample, completion in pairs]))

    def reward(self, pairs: Sequence[tuple[Sample, Completion]], grades: Sequence[Grade]) -> None:
        """Fill in grade, reward and reward_parts of each completion; a grade of ERROR makes the reward NaN (masked).

        reward = accuracy_weight * accuracy + format_weight * format, less `hallucination_penalty` where the response
        denies seeing an image that it was given, and with what its environment gave.
        """
        penalty = self._config.hallucination_penalty
        for (sample, completion), grade in zip(pairs, grades, strict=True):
            accuracy = grade.accuracy
            shape = float(has_think_format(completion.text))
            completion.grade = grade
            completion.reward_parts = {"accuracy": accuracy, "format": shape}
            completion.reward = self._config.accuracy_weight * accuracy + self._config.format_weight * shape
            completion.reward += completion.environment_reward
            if penalty and hallucinations(sample, completion.text):
                completion.reward -= penalty

    def grade(self, pairs: Sequence[tuple[Sample, str]]) -> list[Grade]:
        """One grade per (sample, response), in order: by the reward function, else by the rules, then the verifier.

        Raises RewardError where the reward function fails.
        """
        if self._function is not None:
            return [self._function.grade(text, sample) for sample, text in pairs]
        grades = grade_batch([(text, s.answer, s.answer_type, s.choices or None, s.question) for s, text in pairs])
        return second_opinions(self, pairs, grades)

    def metrics(self) -> dict[str, float]:
        """Since the last call: `verifier/...` and `reward/by_verifier`; empty without a verifier."""
        if self._verifier is None:
            return {}
        metrics = dict(self._verifier.metrics())
        if self._right:
            metrics["reward/by_verifier"] = self._right_by_verifier / self._right
        self._right = self._right_by_verifier = 0
        return metrics

    def _ask_verifier(self, pairs: Sequence[tuple[Sample, str]], grades: list[Grade]) -> list[Grade]:
        from seethink.rewards.verifier.verifier import VerifyItem

        assert self._verifier is not None
        asked = [i for i, g in enumerate(grades) if g.verdict is Verdict.WRONG and g.extracted]
        items = [
            VerifyItem(pairs[i][0].question, shown_gold(pairs[i][0].answer), grades[i].extracted or "") for i in asked
        ]
        for i, verdict in zip(asked, self._verifier.verify(items), strict=True):
            grades[i] = verdict if verdict is not None else grades[i]
        right = [i for i, grade in enumerate(grades) if grade.verdict is Verdict.CORRECT]
        self._right += len(right)
        self._right_by_verifier += len(set(right) & set(asked))
        return grades


def second_opinions(rewarder: Rewarder, pairs: Sequence[tuple[Sample, str]], grades: list[Grade]) -> list[Grade]:
    """The grades of a rule, with the verifier's where the rule called an extracted answer wrong and there is one."""
    return rewarder._ask_verifier(pairs, grades) if rewarder._verifier is not None else grades


def command_rewarder(config: RewardConfig | None, run_folder: Path | None = None) -> Rewarder:
    """By rules without a `config`. For commands: `reward.function` may lie in the folder where they are given."""
    return Rewarder(config or RewardConfig(), run_folder=run_folder, function_folder=Path.cwd())


def _open_verifier(config: RewardConfig, run_folder: Path | None) -> Verifier | None:
    if config.verifier is None:
        return None
    from seethink.rewards.verifier.verifier import Verifier

    return Verifier(config.verifier, run_folder)
