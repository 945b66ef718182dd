"""Rollouts one step ahead: which weights sample which episode, how stale it may be, what a checkpoint holds of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import load_nano, make_samples, nano_recipe
from helpers.training import batcher_of, make_policy
from seethink.config import Recipe
from seethink.core.types import Completion, Sample
from seethink.generate.make import make_generator
from seethink.models.load import LoadedModel
from seethink.rl.ahead import Ahead
from seethink.rl.rollout import PromptSource, Rollouts, StaleCompletionError
from seethink.train.entropies import EntropyProbe
from seethink.train.grpo import Grpo
from seethink.train.memory import TokenBudget

SIZES = ("rollout.prompts_per_step=2", "rollout.group_size=3", "rollout.max_new_tokens=6", "algorithm.steps=4")
AHEAD = ("rollout.engine=vllm", "rollout.ahead=1", "algorithm.mismatch_correction=token")
Reward = Callable[[Sample, int], float]


class InBackground:
    """The in-process generator as one that samples in the background: at once, with the weights of the moment."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self._inner = loaded, make_generator(loaded)
        self.events: list[str] = []
        self.wrong = 0
        """Added to the version that completions carry."""
        self._begun: list[list[Completion]] | None = None

    @property
    def policy_version(self) -> int:
        return self._inner.policy_version

    @policy_version.setter
    def policy_version(self, version: int) -> None:
        self._inner.policy_version = version

    def generate(self, *args: Any, **keys: Any) -> list[list[Completion]]:
        assert self._begun is None
        self.events.append(f"now {self.policy_version}")
        groups = self._inner.generate(*args, **keys)
        for completion in (c for group in groups for c in group):
            completion.policy_version += self.wrong
            completion.entropies, completion.watched_mass = [], []
        for group in groups:  # one that ends by itself
            ids = group[0].token_ids = [*group[0].token_ids[:2], self._loaded.stop_ids[0]]
            group[0].generator_logprobs = [*group[0].generator_logprobs[:2], -1.0]
            group[0].text, group[0].truncated = self._loaded.chat.decode(ids[:-1]), False
        return groups

    def begin(self, *args: Any) -> None:
        groups = self.generate(*args)
        self.events[-1] = f"begin {self.policy_version}"
        self._begun = groups

    def wait(self) -> float:
        self.events.append("wait")
        return 0.5

    def finish(self) -> list[list[Completion]]:
        begun, self._begun = self._begun, None
        assert begun is not None
        return begun

    def load_weights(self, version: int) -> None:
        assert self._begun is None or self.events[-1] == "wait"
        self._inner.load_weights(version)

    def close(self) -> None:
        self._inner.close()


class Graded:
    """A rewarder of the place of a completion alone."""

    def __init__(self, reward: Reward) -> None:
        self._reward = reward

    def score(self, pairs: Sequence[tuple[Sample, Completion]]) -> None:
        for place, (sample, completion) in enumerate(pairs):
            completion.reward = self._reward(sample, place)

    def metrics(self) -> dict[str, float]:
        return {}


def alternating(sample: Sample, place: int) -> float:
    return float(place % 2)


def make_rollouts(loaded: LoadedModel, recipe: Recipe, generator: Any, reward: Reward = alternating) -> Rollouts:
    source = PromptSource(make_samples([1, 0, 1, 1, 0]), loaded.chat, 0)
    return Rollouts(source, generator, Graded(reward), recipe.rollout, recipe.algorithm, 7)  # type: ignore[arg-type]


def make_stage(loaded: LoadedModel, recipe: Recipe, rollouts: Rollouts, state: dict[str, Any] | None = None) -> Grpo:
    policy = make_policy(loaded, recipe, 4)
    probe = EntropyProbe(policy, ("what",), 2)
    ahead = None
    if recipe.rollout.ahead:
        rollouts.source.position = state["position"] if state else 0
        ahead = Ahead(rollouts, rollouts.generator, state["ahead"] if state else None)  # type: ignore[arg-type]
    return Grpo(policy, rollouts, TokenBudget(batcher_of(recipe, loaded), policy), probe, ahead=ahead)


def run(stage: Grpo, steps: Sequence[int]) -> list[tuple[Any, dict[str, float]]]:
    results = [stage.step(number) for number in steps]
    return [(result.episode, result.metrics) for result in results]


def test_each_episode_is_of_the_weights_before_and_says_so(random_nano: Path) -> None:
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES, *AHEAD)
    generator = InBackground(loaded)
    found = run(make_stage(loaded, recipe, make_rollouts(loaded, recipe, generator)), range(4))
    assert [{c.policy_version for c in episode.completions} for episode, _ in found] == [{0}, {0}, {1}, {2}]
    assert [metrics["rollout/staleness"] for _, metrics in found] == [0, 1, 1, 1]
    assert generator.events == ["now 0", "begin 0", "wait", "begin 1", "wait", "begin 2", "wait"]
    assert [episode.seconds["rollout"] for episode, _ in found[1:]] == [0.5] * 3
    assert all(metrics["time/rollout_wait_s"] >= 0 and math.isfinite(metrics["loss/total"]) for _, metrics in found)


def test_prompts_and_seeds_are_those_of_an_on_policy_run(random_nano: Path) -> None:
    """With a learning rate of 0 the weights are too, and so is every token."""
    episodes = []
    for words in ((), AHEAD):
        loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES, "optim.lr=1e-30", *words)
        found = run(make_stage(loaded, recipe, make_rollouts(loaded, recipe, InBackground(loaded))), range(4))
        episodes.append([
            [(group.prompt.sample.id, [c.token_ids for c in group.completions]) for group in episode.groups]
            for episode, _ in found
        ])  # fmt: skip
    assert episodes[0] == episodes[1]


def test_without_it_no_staleness_is_told(random_nano: Path) -> None:
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES)
    stage = make_stage(loaded, recipe, make_rollouts(loaded, recipe, InBackground(loaded)))
    ((_, metrics),) = run(stage, range(1))
    assert not {"rollout/staleness", "time/rollout_wait_s"} & set(metrics)
    assert stage.state() == {"position": 2}


def test_completions_of_other_weights_than_those_are_refused(random_nano: Path) -> None:
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES, *AHEAD)
    generator = InBackground(loaded)
    stage = make_stage(loaded, recipe, make_rollouts(loaded, recipe, generator))
    stage.step(0)
    generator.wrong = -1
    stage.step(1)
    with pytest.raises(StaleCompletionError, match=r"version 0, but training is at version 2"):
        stage.step(2)


def test_groups_that_dynamic_sampling_adds_are_of_the_current_weights(random_nano: Path) -> None:
    """The first group of every round is flat, so that a round keeps half of what it samples."""
    words = ("algorithm.dynamic_sampling=true", "algorithm.max_resamples=1")
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES, *AHEAD, *words)

    def reward(sample: Sample, place: int) -> float:
        return float(place >= 3 and place % 2)

    found = run(make_stage(loaded, recipe, make_rollouts(loaded, recipe, InBackground(loaded), reward)), range(3))
    versions = [[group.completions[0].policy_version for group in episode.groups] for episode, _ in found]
    assert versions == [[0, 0], [0, 1], [1, 2]]
    assert [metrics["rollout/staleness"] for _, metrics in found] == [0, 0.5, 0.5]
    assert [episode.dropped_groups for episode, _ in found] == [1, 1, 1]


def test_a_checkpoint_holds_what_is_not_trained_on_yet(random_nano: Path) -> None:
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES, *AHEAD)
    rollouts = make_rollouts(loaded, recipe, InBackground(loaded))
    stage = make_stage(loaded, recipe, rollouts)
    run(stage, range(2))
    state = json.loads(json.dumps(stage.state()))
    assert state["position"] == 4, "those of the third step are taken again"
    position = rollouts.source.position

    other = InBackground(loaded)
    again = make_rollouts(loaded, recipe, other)
    again.source.position = state["position"]
    restored = Ahead(again, other, state["ahead"])  # type: ignore[arg-type]
    assert restored.state() == stage.state() | {"ahead": state["ahead"]}
    assert again.source.position == position
    assert stage._ahead is not None
    (ours, asked_of), (theirs, as_before) = restored.take(2) or (None, -1), stage._ahead.take(2) or (None, -2)
    assert ours is not None
    assert theirs is not None
    assert (asked_of, ours.seconds) == (as_before, theirs.seconds) == (1, 0.5)
    assert [g.prompt.input_ids for g in ours.groups] == [g.prompt.input_ids for g in theirs.groups]
    assert [g.completions for g in ours.groups] == [g.completions for g in theirs.groups]
    assert {c.truncated for g in ours.groups for c in g.completions} == {True, False}
    assert other.events == []


@pytest.mark.parametrize("word", ["rollout.group_size=2", "rollout.max_new_tokens=5", "rollout.prompts_per_step=1"])
def test_what_was_asked_for_otherwise_is_sampled_again(
    random_nano: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the weights of the moment, from the place in the data where it would have been."""
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES, *AHEAD)
    stage = make_stage(loaded, recipe, make_rollouts(loaded, recipe, InBackground(loaded)))
    run(stage, range(2))
    state = stage.state()
    changed = nano_recipe(random_nano, *SIZES, *AHEAD, word)
    rollouts = make_rollouts(loaded, changed, InBackground(loaded))
    resumed = make_stage(loaded, changed, rollouts, state)
    assert rollouts.source.position == 4
    assert "sampled ahead for step 3 was asked for otherwise than now: it is sampled again" in " ".join(
        capsys.readouterr().out.split()
    )
    ((episode, metrics),) = run(resumed, [2])
    assert len(episode.completions) == changed.rollout.prompts_per_step * changed.rollout.group_size
    assert metrics["rollout/staleness"] == 0
