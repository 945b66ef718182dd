"""What another engine may lack or get wrong: stale weights, and entropies that only the trainer knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import likes_e, load_nano, make_samples, nano_recipe  # noqa: F401  (likes_e by its name)
from helpers.training import batcher_of, make_policy
from seethink.config import Recipe, RewardConfig
from seethink.core.types import Completion
from seethink.generate.make import make_generator
from seethink.generate.protocol import Generator
from seethink.models.load import LoadedModel
from seethink.rewards.rewarder import Rewarder
from seethink.rl.rollout import PromptSource, Rollouts, StaleCompletionError
from seethink.train.entropies import EntropyProbe
from seethink.train.grpo import Grpo
from seethink.train.memory import TokenBudget

SIZES = ("rollout.prompts_per_step=2", "rollout.group_size=3", "rollout.max_new_tokens=6", "algorithm.steps=4")


class Other:
    """The in-process generator behind another engine's habits."""

    def __init__(self, inner: Generator, *, gives_entropies: bool = True, updates: bool = True) -> None:
        self._inner, self._gives, self._updates = inner, gives_entropies, updates
        self.policy_version = inner.policy_version
        self.asked: list[int] = []

    def generate(self, *args: Any, **keys: Any) -> list[list[Completion]]:
        groups = self._inner.generate(*args, **keys)
        if self._gives:
            return groups
        return [[replace(c, entropies=[], watched_mass=[]) for c in group] for group in groups]

    def load_weights(self, version: int) -> None:
        self.asked.append(version)
        if self._updates or version == 0:
            self._inner.load_weights(version)

    def close(self) -> None:
        self._inner.close()


def make_stage(loaded: LoadedModel, recipe: Recipe, generator: Any) -> Grpo:
    policy = make_policy(loaded, recipe, 4)
    probe = EntropyProbe(policy, ("what", "red"), 2)
    rewarder = Rewarder(RewardConfig(function="helpers.nano:likes_e"))
    source = PromptSource(make_samples([1, 0, 1, 1]), loaded.chat, 0)
    rollouts = Rollouts(source, generator, rewarder, recipe.rollout, recipe.algorithm, 0, probe.watched_ids)
    return Grpo(policy, rollouts, TokenBudget(batcher_of(recipe, loaded), policy), probe)


def test_every_step_asks_for_the_new_weights_and_completions_carry_their_version(random_nano: Path) -> None:
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES)
    generator = Other(make_generator(loaded))
    stage = make_stage(loaded, recipe, generator)
    versions = []
    for number in range(3):
        episode = stage.step(number).episode
        assert episode is not None
        versions.append({c.policy_version for c in episode.completions})
    assert versions == [{0}, {1}, {2}]
    assert generator.asked == [0, 1, 2, 3]


def test_stale_completions_are_refused(random_nano: Path) -> None:
    """An engine that goes on with the first weights: the second episode is of another policy than the trained one."""
    loaded, recipe = load_nano(random_nano), nano_recipe(random_nano, *SIZES)
    stage = make_stage(loaded, recipe, Other(make_generator(loaded), updates=False))
    stage.step(0)
    with pytest.raises(StaleCompletionError, match=r"weights of version 0, but training is at version 1.*load_weights"):
        stage.step(1)


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.slow
def test_entropies_that_the_engine_cannot_give_come_from_the_trainer(random_nano: Path, shared: str) -> None:
    recipe = nano_recipe(random_nano, *SIZES, f"optim.shared_prompt={shared}")
    episodes = []
    for gives in (True, False):
        loaded = load_nano(random_nano)
        stage = make_stage(loaded, recipe, Other(make_generator(loaded), gives_entropies=gives))
        episodes.append(stage.step(0).episode)
    given, computed = episodes
    assert given is not None
    assert computed is not None
    for ours, theirs in zip(computed.completions, given.completions, strict=True):
        assert ours.token_ids == theirs.token_ids
        assert ours.entropies == pytest.approx(theirs.entropies, abs=1e-5)
        assert len(ours.watched_mass) == len(ours.token_ids)
        assert ours.watched_mass == pytest.approx(theirs.watched_mass, abs=1e-6)
