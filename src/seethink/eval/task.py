"""What an evaluation is made of: items, how responses to them are graded, and how grades become a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from seethink.core.types import Grade, Sample
from seethink.rewards.rewarder import Rewarder


class Accuracy(NamedTuple):
    """A score in [0, 1] with its standard error over `n` independent items; NaN where there are too few."""

    accuracy: float
    stderr: float
    n: int


class Task(Protocol):
    """One benchmark, or one data source.

    Example: `SourceTask("math", samples)`
    """

    @property
    def name(self) -> str:
        """Names the metrics: `eval/<name>/accuracy`."""
        ...

    @property
    def samples(self) -> Sequence[Sample]:
        """[N] The items, each with its gold answer, as the model is to be asked."""
        ...

    def grade(self, responses: Sequence[tuple[Sample, str]], rewarder: Rewarder) -> list[Grade]:
        """A grade per response, in order. All responses come in one call, because grading runs in parallel."""
        ...

    def score(self, samples: Sequence[Sample], grades: Sequence[Sequence[Grade]]) -> Accuracy:
        """The score of some or all of the items, given the grades [N][k] of their k responses each.

        A response whose grade is an error is left out of the score, never counted wrong.
        """
        ...
