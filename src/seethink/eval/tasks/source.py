"""Domains of the procedural world, and data files: graded by the training's rewarder, scored by the mean over items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seethink.config import EvalConfig, ReadConfig, Recipe
from seethink.core.console import say
from seethink.core.redact import visible
from seethink.core.statistics import mean_se
from seethink.core.types import Grade, Sample
from seethink.data.chat import Chat
from seethink.data.lengths import load_fitting
from seethink.data.quarantine import Quarantine
from seethink.eval.score import mean_accuracy
from seethink.eval.task import Accuracy, Task
from seethink.eval.tasks.bench_task import is_bench, load_bench_task
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import PREFIX, is_world, one_domain, parse_source

WORLD_SIZE = 500
"""Items per domain of the world, which is endless."""


@dataclass(frozen=True, slots=True)
class SourceTask:
    """Items of one data source. Every item counts once, however many of its responses could be graded."""

    name: str
    samples: Sequence[Sample]

    def grade(self, responses: Sequence[tuple[Sample, str]], rewarder: Rewarder) -> list[Grade]:
        return rewarder.grade(responses)

    def score(self, samples: Sequence[Sample], grades: Sequence[Sequence[Grade]]) -> Accuracy:
        means = [mean for own in grades if (mean := mean_accuracy(own)) is not None]
        return Accuracy(*mean_se(means), len(means))


def load_source_task(
    config: EvalConfig,
    seed: int,
    *,
    chat: Chat | None = None,
    reading: ReadConfig | None = None,
    quarantine: Quarantine | None = None,
) -> Task:
    """`config.size` test items per domain of `config.data`; by default all of a file, 500 per domain of the world.

    `bench:NAME` is a published benchmark (`bench_task`). Bad rows go to `quarantine`, and with `chat` also the prompts
    that its model cannot take. Raises DataError.
    """
    assert config.data is not None
    if is_bench(config.data):
        return load_bench_task(config.data, config.size, seed, chat)
    return SourceTask(source_name(config.data), eval_samples(config, seed, chat, reading, quarantine))


def eval_samples(
    config: EvalConfig,
    seed: int,
    chat: Chat | None = None,
    reading: ReadConfig | None = None,
    quarantine: Quarantine | None = None,
) -> list[Sample]:
    """The items of `load_source_task`."""
    assert config.data is not None

    def load(source: str, size: int | None) -> list[Sample]:
        kept = quarantine or Quarantine()
        rows = reading or ReadConfig()
        return load_fitting(source, "test", size, seed, chat, rows, kept, golds=read_gold, graded=True)

    if not is_world(config.data):
        return _first_of_each_domain(load(config.data, None), config)
    domains, _ = parse_source(config.data)
    return [s for d in domains for s in load(one_domain(config.data, d), config.size or WORLD_SIZE)]


def _first_of_each_domain(samples: Sequence[Sample], config: EvalConfig) -> list[Sample]:
    """`config.size` samples of each domain of a file, or all; says where some are left out."""
    by_domain: dict[str, list[Sample]] = {}
    for sample in samples:
        by_domain.setdefault(sample.domain, []).append(sample)
    kept = [s for members in by_domain.values() for s in members[: config.size]]
    if len(kept) < len(samples):
        most = f"at most {config.size:,}" + " per domain" * (len(by_domain) > 1)
        say(visible(f"{config.data}: {len(kept):,} of {len(samples):,} items are evaluated ({most})"))
    return kept


def source_name(source: str) -> str:
    """A short name for metrics.

    >>> source_name("world:math,dice?image=blank"), source_name("data/geometry.parquet")
    ('math,dice', 'geometry')
    """
    if is_world(source):
        return source.removeprefix(PREFIX).partition("?")[0].partition(":")[0]
    return Path(source).stem


def eval_reading(recipe: Recipe) -> ReadConfig:
    """Evaluation reads as training does; columns and image folder belong to the training data alone."""
    same = recipe.eval.data == recipe.data.train
    return recipe.data if same else recipe.data.model_copy(update={"style": "auto", "image_root": None})
