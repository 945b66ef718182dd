"""Pieces of training made from a recipe, for tests that take a step apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seethink.config import Recipe
from seethink.core.types import Completion, Microbatch, Prompt, RolloutGroup
from seethink.generate.protocol import Generator
from seethink.models.load import LoadedModel
from seethink.models.scorer import TokenScorer
from seethink.rewards.rewarder import Rewarder
from seethink.rl.batching import Batcher, given_responses, sampled_responses
from seethink.rl.rollout import Episode, PromptSource, Rollouts
from seethink.train import grpo
from seethink.train.policy import LossFn, Policy
from seethink.train.ppo import Critic
from seethink.train.start import make_policy as make_recipe_policy


def make_policy(loaded: LoadedModel, recipe: Recipe, steps: int) -> Policy:
    return make_recipe_policy(recipe, loaded, steps)


def make_critic(recipe: Recipe, loaded: LoadedModel) -> Critic:
    return Critic(loaded, recipe.ppo, max_grad_norm=recipe.optim.max_grad_norm, seed=recipe.seed)


def batcher_of(recipe: Recipe, loaded: LoadedModel) -> Batcher:
    return Batcher.for_model(loaded, recipe.optim, groups=recipe.stage != "sft")


def microbatches(
    recipe: Recipe,
    episode: Episode,
    completions: Sequence[Completion],
    members: Sequence[int],
    loaded: LoadedModel,
    *,
    leave_idle: bool = False,
) -> list[Microbatch]:
    """Micro-batches of some of an episode's completions, which `sequence_ids` count in their order."""
    chosen = [completions[i] for i in members]
    kept = [RolloutGroup(g.prompt, [c for c in g.completions if any(c is k for k in chosen)]) for g in episode.groups]
    sequences = sampled_responses(
        [group for group in kept if group.completions],
        recipe.algorithm.aggregation,
        episode.max_new_tokens,
        leave_idle=leave_idle,
    )
    return batcher_of(recipe, loaded).batches(sequences)


def pair_batches(pairs: Sequence[tuple[Prompt, list[int]]], recipe: Recipe, loaded: LoadedModel) -> list[Microbatch]:
    return batcher_of(recipe, loaded).batches(given_responses(pairs))


def make_loss(
    recipe: Recipe, batches: list[Microbatch], old: list[Tensor] | None, reference: list[Tensor] | None
) -> LossFn:
    """The loss of `batches`, into which old and reference log-probs are written."""
    for i, batch in enumerate(batches):
        batch.old_logprobs = None if old is None else old[i]
        batch.reference_logprobs = None if reference is None else reference[i]
    return grpo.make_loss(recipe.algorithm)


def update(
    policy: Policy, recipe: Recipe, episode: Episode, reference: torch.nn.Module | None, critic: Critic | None
) -> dict[str, float]:
    """All gradient steps of an episode; the metrics, with the number of skipped updates."""
    frozen = None
    if reference is not None:
        frozen = TokenScorer(replace(policy.loaded, model=reference), temperature=recipe.rollout.temperature)
    batcher = batcher_of(recipe, policy.loaded)
    metrics, faults = grpo.update(policy, batcher, episode, recipe.algorithm, critic=critic, reference=frozen)
    return metrics | {"optim/skipped": float(len(faults))}


def collect_episode(
    recipe: Recipe, source: PromptSource, generator: Generator, rewarder: Rewarder, step: int
) -> Episode:
    return Rollouts(source, generator, rewarder, recipe.rollout, recipe.algorithm, recipe.seed).collect(step)
