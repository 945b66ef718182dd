"""What a benchmark is: where its rows are, how they become items, how answers are graded and scored, what is published.

Letters: N items, K runs, U units of a score (questions, figures, groups of steps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.types import Grade, Sample
from seethink.data.images import ImageRef
from seethink.eval.bench.prompts import MARK
from seethink.eval.bench.sources import Source


class BenchError(UserError):
    """A benchmark whose data are missing, are another variant's, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark, as the model is asked it.

    Example: `Item("v1_0", "Which comes next?<image>", "C", images=(ref,), choices=("A", "B", "C", "D"))`
    """

    id: str
    question: str
    """The whole prompt; each `<image>` mark is one of `images`, in order; without marks, images come first."""
    gold: str
    """The right answer: a letter where there are `choices`, else text; several letters are a set."""
    images: tuple[ImageRef, ...] = ()
    choices: tuple[str, ...] = ()
    """Option texts in the order A, B, C, ...; empty for open questions, and where the options are in the image."""
    options: int = 0
    """Number of options that a letter is chosen from, where they are in the image."""
    answer_type: str | None = None
    """As the grader names it; None: told from the gold."""
    category: str = "all"
    """What the benchmark's tables break scores down by."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Names of the groups that composite scores are made of, such as `figure` or `steps`."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the benchmark's own grading needs besides, such as `precision`."""
    system: str = ""
    """The system turn; "" for none."""

    def without_images(self) -> Item:
        """The words alone, for a blind baseline."""
        return replace(self, images=(), question=self.question.replace(MARK, ""))

    def sample(self) -> Sample:
        """The same question for a chat template: options are written out in it already."""
        return Sample(
            self.id, self.question, self.images, self.gold, (), self.answer_type, self.category, system=self.system,
            meta=dict(self.meta),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Component:
    """One mean that a score is made of: over items, or over units such as the figures of HallusionBench.

    Example: accuracy is `Component("accuracy", 1.0, right, np.arange(len(items)))`.
    """

    name: str
    weight: float
    """Its share of the headline score; 0 for a figure that is only reported."""
    values: np.ndarray
    """[U, K] in [0, 1]; NaN where a unit could not be scored in a run."""
    clusters: np.ndarray
    """[U] Units with the same number are not independent."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A score, taken apart."""

    components: tuple[Component, ...]
    """Weights sum to 1."""
    figures: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[K] Further figures of each run, by name."""


Grader = Callable[[Sequence[tuple[Item, str]]], list[Grade]]
"""(item, the answer without the thinking) pairs -> a grade each."""
Scorer = Callable[[Sequence[Item], np.ndarray], Parts]
"""(items [N], accuracies [N, K] with NaN where unscored) -> the score's parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark. Its file under `eval/tasks` says all that is known about it."""

    name: str
    """As on the command line, such as `mathvista`."""
    title: str
    """As in the paper's table."""
    version: str
    """Changes where items, prompts, grading or score of this definition change; stored grades then are made anew."""
    sources: tuple[Source, ...]
    """Layouts of the same rows, in order of preference."""
    expect: Mapping[str, int]
    """Items by category; under "" their number alone, where categories are not counted."""
    prompt: str
    """Which published prompt the questions follow."""
    grade: Grader
    score: Scorer
    chance: Callable[[Sequence[Item]], float]
    """Expected score of uniformly random options, from 0 to 1; open questions count 0."""
    paper: float
    """Skywork-R1V3-38B's figure in percent (arXiv 2507.06167, section 4)."""
    licence: str
    peers: Mapping[str, float] = field(default_factory=dict)
    """Published figures of other models on the same items, in percent."""
    bad_rows: Mapping[str, str] = field(default_factory=dict)
    """Item -> what is wrong with it in the published data, and what is done; all stay in the denominator."""
    notes: str = ""
    """What a reader must know to compare the figure."""
    whole_groups: str = ""
    """A key of `groups` whose members must stay together in a sample; "" where items stand alone."""

    @property
    def total(self) -> int:
        return sum(self.expect.values())
