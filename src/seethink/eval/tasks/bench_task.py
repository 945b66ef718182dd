"""A published benchmark as a task: for evaluation during training, and for select, modes, hallucination and entropy.

`bench:NAME` finds the data under $SEETHINK_BENCH, `bench:NAME:FOLDER` in a folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.statistics import mean_se
from seethink.core.thinking import after_thinking
from seethink.core.types import Grade, Sample, Verdict
from seethink.data.chat import Chat
from seethink.eval.bench.benchmark import BenchError, Benchmark, Item
from seethink.eval.bench.load import load
from seethink.eval.bench.statistics import headline, headline_error
from seethink.eval.score import mean_accuracy
from seethink.eval.task import Accuracy
from seethink.eval.tasks.registry import BENCHMARKS
from seethink.rewards.rewarder import Rewarder, second_opinions

PREFIX = "bench:"


def is_bench(source: str) -> bool:
    """Whether a source of data names a benchmark."""
    return source.startswith(PREFIX)


def parse_bench(source: str) -> tuple[Benchmark, Path]:
    """(the benchmark, the folder of its data). Raises BenchError."""
    name, _, folder = source.removeprefix(PREFIX).partition(":")
    if name not in BENCHMARKS:
        raise BenchError(f"{source!r}: expected one of {', '.join(BENCHMARKS)} after {PREFIX!r}, found {name!r}")
    folder = folder or os.environ.get("SEETHINK_BENCH", "")
    if not folder:
        raise BenchError(f"{source!r} needs its data: give their folder as {PREFIX}{name}:FOLDER, or as SEETHINK_BENCH")
    return BENCHMARKS[name], Path(folder).expanduser()


@dataclass(frozen=True, slots=True)
class BenchTask:
    """Items of a benchmark, graded by its rules and scored as it is: composites over all items, means over some."""

    name: str
    benchmark: Benchmark
    items: Sequence[Item]
    samples: Sequence[Sample]
    """[N] Those of `items`."""
    _by_id: dict[str, Item] = field(repr=False)

    def grade(self, responses: Sequence[tuple[Sample, str]], rewarder: Rewarder) -> list[Grade]:
        """By the benchmark's rules, then by the rewarder's verifier where there is one."""
        answers = [after_thinking(text) for _, text in responses]
        pairs = [(self._by_id[sample.id], answer or "") for (sample, _), answer in zip(responses, answers, strict=True)]
        grades = self.benchmark.grade(pairs)
        unanswered = Grade(Verdict.NO_ANSWER, None, "a thought that never ends")
        grades = [unanswered if a is None else grade for a, grade in zip(answers, grades, strict=True)]
        return second_opinions(rewarder, responses, grades)

    def score(self, samples: Sequence[Sample], grades: Sequence[Sequence[Grade]]) -> Accuracy:
        """The benchmark's own score where all its loaded items are there, else the mean over these items."""
        right_NK = np.array([[grade.accuracy for grade in own] for own in grades], dtype=float)
        if len(samples) == len(self.items) and right_NK.ndim == 2:
            parts = self.benchmark.score([self._by_id[sample.id] for sample in samples], right_NK)
            return Accuracy(float(np.nanmean(headline(parts))), headline_error(parts), len(samples))
        means = [mean for own in grades if (mean := mean_accuracy(own)) is not None]
        return Accuracy(*mean_se(means), len(means))


def load_bench_task(source: str, size: int | None, seed: int, chat: Chat | None = None) -> BenchTask:
    """All items, or a stratified sample of `size` for each category. Raises BenchError, RowsError.

    With `chat`, items that its model cannot be asked are left out, and their number is said.
    """
    benchmark, root = parse_bench(source)
    categories = max(1, len([name for name in benchmark.expect if name]))
    loaded = load(benchmark, root, limit=None if size is None else size * categories, seed=seed)
    items = _askable(benchmark, loaded.items, chat)
    if len(items) < loaded.total:
        unfit = len(loaded.items) - len(items)
        dropped = f", {unfit:,} left out as the model cannot take their prompts" if unfit else ""
        say(f"{source}: {len(items):,} of {loaded.total:,} items{dropped}: the score is not the benchmark's")
    if not items:
        raise BenchError(f"{source}: the model cannot take the prompt of any item")
    by_id = {item.id: item for item in items}
    return BenchTask(benchmark.name, benchmark, items, [item.sample() for item in items], by_id)


def _askable(benchmark: Benchmark, items: Sequence[Item], chat: Chat | None) -> list[Item]:
    """The items that the model can be asked; with one of a group that it cannot, the group goes."""
    group = benchmark.whole_groups
    fits = [chat is None or _fits(item, chat) for item in items]
    lost = {item.groups[group] for item, fit in zip(items, fits, strict=True) if group and not fit}
    return [i for i, fit in zip(items, fits, strict=True) if fit and not (group and i.groups[group] in lost)]


def _fits(item: Item, chat: Chat) -> bool:
    try:
        return chat.context is None or chat.prompt_length(item.sample()) < chat.context
    except UserError:
        return False
