"""The whole RL step on a trivial wish: rewards must rise. Sampling, advantages, loss and optimizer at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.nano import make_samples, nano_recipe
from helpers.training import collect_episode, make_critic, make_policy, update
from seethink.core.types import Completion, Sample
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.models.load import LoadedModel
from seethink.rl.rollout import PromptSource

STEPS = 24
LIKED = range(60)
"""Token ids that the reward wants; a random nano draws one in seven from them."""


class Liking:
    """Stands in for the Rewarder: the share of liked tokens."""

    def score(self, pairs: list[tuple[Sample, Completion]]) -> None:
        for _, completion in pairs:
            completion.reward = float(np.mean([token in LIKED for token in completion.token_ids]))


@pytest.mark.parametrize("stage", ["grpo", pytest.param("ppo", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_reward_rises(nano: LoadedModel, stage: str) -> None:
    sizes = ("rollout.prompts_per_step=4", "rollout.group_size=8", "rollout.max_new_tokens=8")
    recipe = nano_recipe("", f"algorithm.steps={STEPS}", *sizes, "ppo.critic_lr=3e-3", stage=stage)
    policy = make_policy(nano, recipe, STEPS)
    critic = make_critic(recipe, nano) if stage == "ppo" else None
    generator, liking = InProcessGenerator(nano), Liking()
    source = PromptSource(make_samples((1, 0, 1, 0)), nano.chat, seed=0)
    means = []
    for step in range(STEPS):
        episode: Any = collect_episode(recipe, source, generator, liking, step)
        means.append(np.mean([group.rewards for group in episode.groups]))
        update(policy, recipe, episode, None, critic)
    assert means[0] < 0.25
    assert np.mean(means[-3:]) > 0.8
