"""`algorithm.samples`: what dropped groups cost counts, and a run ends when it has sampled so many completions."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seethink.config import AlgorithmConfig, RecipeError, RolloutConfig, make_recipe
from seethink.core.types import Completion
from seethink.rl.rollout import Rollouts
from seethink.train.hooks.samples import SampleCount

GROUP = 3


class Source:
    """Endless prompts, of which only the number counts."""

    position = 0

    def take(self, count: int, difficulties: tuple[str, ...] = ()) -> list[Any]:
        self.position += count
        return [SimpleNamespace(sample=None, place=self.position - count + i) for i in range(count)]


class Scripted:
    def generate(self, prompts: Sequence[Any], group_size: int, *_: Any) -> list[list[Completion]]:
        return [[Completion([1], [0.0], [0.0], str(p.place), False, 0) for _ in range(group_size)] for p in prompts]


class FlatWhereEven:
    """Groups of prompts with an even place have no variance."""

    def score(self, pairs: Sequence[tuple[Any, Completion]]) -> None:
        for number, (_, completion) in enumerate(pairs):
            completion.reward = float(int(completion.text) % 2 and number % GROUP == 0)


def make_rollouts(samples: int, **algorithm: Any) -> Rollouts:
    config = AlgorithmConfig(steps=9, samples=samples, **algorithm)
    rollout = RolloutConfig(prompts_per_step=2, group_size=GROUP, max_new_tokens=4)
    return Rollouts(Source(), Scripted(), FlatWhereEven(), rollout, config, 0)  # type: ignore[arg-type]


def kept(rollouts: Rollouts) -> list[list[int]]:
    """Places of the prompts whose groups each step learns from, until the limit ends the run."""
    count, steps = SampleCount(rollouts), []
    while not count.finished and len(steps) < 9:
        steps.append([group.prompt.place for group in rollouts.collect(len(steps)).groups])  # type: ignore[attr-defined]
    return steps


def test_dropped_groups_count_and_what_is_sampled_last_is_kept() -> None:
    """Places 0 and 1: 0 is dropped, and so is 2; then 3 completes the step. The seventh prompt is the last."""
    rollouts = make_rollouts(7 * GROUP, dynamic_sampling=True)
    assert kept(rollouts) == [[1, 3], [5, 6]]
    assert rollouts.sampled == 7 * GROUP
    assert SampleCount(rollouts).measure(2, None) == {"rollout/samples": 21.0}  # type: ignore[arg-type]


def test_the_last_step_has_as_many_prompts_as_are_left() -> None:
    assert kept(make_rollouts(5 * GROUP)) == [[0, 1], [2, 3], [4]]
    assert len(kept(make_rollouts(0))) == 9, "no limit"


def test_a_run_that_goes_on_ends_where_it_would_have_ended() -> None:
    """The position is all that a checkpoint holds of the count."""
    whole = kept(make_rollouts(9 * GROUP, dynamic_sampling=True))
    resumed = make_rollouts(9 * GROUP, dynamic_sampling=True)
    resumed.source.position = 4
    assert kept(resumed) == whole[1:]
    resumed.source.position = 9
    assert SampleCount(resumed).finished


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algorithm.samples=100"], "algorithm.samples=100 is no multiple of rollout.group_size=32"),
        (["algorithm.samples=64", "rollout.ahead=1", "rollout.engine=vllm"], "set algorithm.steps in its place"),
    ],
)
def test_what_a_limit_does_not_go_with(words: list[str], said: str) -> None:
    table = {"stage": "grpo", "name": "x", "model": "m", "out": "o", "data": {"train": "world:math"}}
    with pytest.raises(RecipeError) as error:
        make_recipe(table, words)
    assert said in str(error.value)
