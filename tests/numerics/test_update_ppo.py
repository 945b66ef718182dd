"""PPO's half of an update: values, advantages and the value loss, against each completion alone and the formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.nano import completions_of, gradients, nano_recipe, random_episode
from helpers.training import make_critic, make_loss, make_policy, microbatches, update
from seethink.config import Recipe
from seethink.models.load import LoadedModel
from seethink.rl.advantages import gae, whiten
from seethink.rl.rollout import Episode
from seethink.train.policy import Policy
from seethink.train.ppo import Critic

NAN = float("nan")
REWARDS = [[0.0, 1.0, 0.2], [1.0, 0.0, 0.8], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]]


def ppo_parts(loaded: LoadedModel, episode: Episode, *overrides: str) -> tuple[Recipe, Policy, Critic, list[Any]]:
    recipe = nano_recipe("", *overrides, stage="ppo")
    completions = completions_of(episode)
    batches = microbatches(recipe, episode, completions, list(range(len(completions))), loaded)
    return recipe, make_policy(loaded, recipe, 1), make_critic(recipe, loaded), batches


def naive_estimates(
    policy: Policy, critic: Critic, recipe: Recipe, episode: Episode
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(values, advantages before whitening, returns) of each completion, each alone in its own batch."""
    found = []
    for i, c in enumerate(completions_of(episode)):
        (batch,) = microbatches(recipe, episode, completions_of(episode), [i], policy.loaded)
        values = critic.values(policy.outputs([batch])[0].hidden).detach()
        rewards = torch.zeros_like(values)
        rewards[-1] = c.reward
        found.append((values, *gae(rewards, values, gamma=recipe.ppo.gamma, lam=recipe.ppo.gae_lambda)))
    return found


@pytest.mark.parametrize("overrides", [(), ("optim.micro_tokens=150", "optim.pack_length=70", "ppo.gae_lambda=0.9")])
def test_gae_lands_on_the_right_tokens(nano64: LoadedModel, overrides: tuple[str, ...]) -> None:
    episode = random_episode(nano64, REWARDS)
    recipe, policy, critic, batches = ppo_parts(nano64, episode, *overrides)
    critic.prepare(policy, batches, completions_of(episode))
    naive = naive_estimates(policy, critic, recipe, episode)
    everything = torch.cat([advantages for _, advantages, _ in naive])
    scale = everything.std() + 1e-6
    for batch in batches:
        old, returns = batch.old_values, batch.returns
        assert old is not None
        assert returns is not None
        owners = batch.sequence_ids[batch.loss_mask]
        assert batch.advantages[~batch.loss_mask].abs().max() == 0
        for i in owners.unique().tolist():
            expected_values, advantages, expected_returns = naive[i]
            torch.testing.assert_close(old[owners == i], expected_values, rtol=0, atol=1e-6)
            torch.testing.assert_close(returns[owners == i], expected_returns, rtol=0, atol=1e-6)
            expected = (advantages - everything.mean()) / scale
            torch.testing.assert_close(batch.advantages[batch.loss_mask][owners == i], expected, rtol=0, atol=1e-5)


def test_masked_completions_do_not_shift_the_whitening(nano64: LoadedModel) -> None:
    """An ungraded response has no advantages, so the others are whitened among themselves."""
    episode = random_episode(nano64, [[0.0, NAN, 1.0], [NAN, 0.2, 0.8]])
    recipe, policy, critic, batches = ppo_parts(nano64, episode)
    critic.prepare(policy, batches, completions_of(episode))
    naive = naive_estimates(policy, critic, recipe, episode)
    graded = [i for i, c in enumerate(completions_of(episode)) if c.reward == c.reward]
    expected = whiten(torch.cat([naive[i][1] for i in graded]))
    (batch,) = batches
    ours = [batch.advantages[batch.loss_mask & (batch.sequence_ids == i)] for i in graded]
    torch.testing.assert_close(torch.cat(ours), expected, rtol=0, atol=1e-5)
    masked = [batch.advantages[batch.sequence_ids == i] for i in (1, 3)]
    assert torch.cat(masked).abs().max() == 0


def test_value_loss_sends_no_gradient_into_the_policy(nano64: LoadedModel) -> None:
    episode = random_episode(nano64, REWARDS[:2])
    recipe, policy, critic, batches = ppo_parts(nano64, episode)
    critic.prepare(policy, batches, completions_of(episode))
    plain = make_loss(recipe, batches, None, None)
    policy.forward_backward(batches, plain)
    expected = gradients(nano64.model)
    nano64.model.zero_grad()
    policy.forward_backward(batches, critic.with_value_loss(plain))
    assert torch.equal(gradients(nano64.model), expected)
    head = critic.state()["critic"]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())


def test_value_loss_of_the_critic_equals_the_formula(nano64: LoadedModel) -> None:
    """At the old values: 0.5 times the mean over responses of the mean over tokens of (V - R)^2."""
    episode = random_episode(nano64, REWARDS[:2])
    recipe, policy, critic, batches = ppo_parts(nano64, episode)
    critic.prepare(policy, batches, completions_of(episode))
    loss_fn = critic.with_value_loss(make_loss(recipe, batches, None, None))
    recorded = policy.forward_backward(batches, loss_fn)
    naive = naive_estimates(policy, critic, recipe, episode)
    expected = sum(0.5 * (v - r).square().mean() for v, _, r in naive) / len(naive)
    assert recorded["loss/value"].sum().item() == pytest.approx(float(expected), rel=1e-5)


def test_value_clip_of_the_recipe_is_used(nano64: LoadedModel) -> None:
    """With the old values moved far away and the returns between, the clipped distance counts."""
    episode = random_episode(nano64, REWARDS[:2])
    recipe, policy, critic, batches = ppo_parts(nano64, episode, "ppo.value_clip=0.3")
    critic.prepare(policy, batches, completions_of(episode))
    for batch in batches:
        assert batch.old_values is not None
        batch.old_values, batch.returns = batch.old_values - 2.0, batch.old_values
    loss_fn = critic.with_value_loss(make_loss(recipe, batches, None, None))
    recorded = policy.forward_backward(batches, loss_fn)
    assert recorded["loss/value"].sum().item() == pytest.approx(0.5 * (2.0 - 0.3) ** 2, rel=1e-5)


@pytest.mark.slow
def test_critic_learns_a_constant_reward(nano: LoadedModel) -> None:
    episode = random_episode(nano, [[1.0] * 3, [1.0] * 3])
    overrides = ("ppo.critic_lr=3e-3", "optim.lr=1e-9")
    recipe, policy, critic, _ = ppo_parts(nano, episode, *overrides)
    losses = [update(policy, recipe, episode, None, critic)["loss/value"] for _ in range(30)]
    assert losses[-1] < 0.05 * losses[0]
