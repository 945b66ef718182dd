"""Prompts -> groups of graded completions with advantages: what an episode learns from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.core.types import Prompt, RolloutGroup, Sample
from seethink.data.chat import Chat
from seethink.data.order import endless_order
from seethink.data.prompts import PromptList
from seethink.generate.protocol import Generator, Sampling
from seethink.rewards.rewarder import Rewarder
from seethink.rl.advantages import group_advantages, has_variance

V = TypeVar("V")


def scheduled(schedule: tuple[tuple[float, V], ...], progress: float, default: V) -> V:
    """The last entry whose share of training has been reached."""
    reached = [value for share, value in sorted(schedule, key=lambda pair: pair[0]) if progress >= share]
    return reached[-1] if reached else default


class PromptSource:
    """An endless, resumable order of prompts, one for every curriculum pool."""

    def __init__(self, samples: list[Sample], chat: Chat, seed: int) -> None:
        self._samples, self._seed = samples, seed
        self._prompts = PromptList(samples, chat)
        self.position = 0
        """Prompts taken so far; all that a resumed run needs."""
        self._pools: dict[tuple[str, ...], list[int]] = {}

    def take(self, count: int, difficulties: tuple[str, ...] = ()) -> list[Prompt]:
        pool = self._pool(difficulties)
        order: Iterator[int] = endless_order(len(pool), self._seed, self.position)
        taken = [pool[next(order)] for _ in range(count)]
        self.position += count
        return [self._prompts[i] for i in taken]

    def _pool(self, difficulties: tuple[str, ...]) -> list[int]:
        """Places of the samples of these difficulties."""
        if difficulties not in self._pools:
            pool = [i for i, s in enumerate(self._samples) if not difficulties or s.difficulty in difficulties]
            if not pool:
                known = sorted({s.difficulty for s in self._samples})
                raise UserError(f"algorithm.curriculum names {list(difficulties)}, but the data has only {known}")
            self._pools[difficulties] = pool
        return self._pools[difficulties]


@dataclass(slots=True)
class Episode:
    """The groups of one step, and how long making them took."""

    groups: list[RolloutGroup]
    max_new_tokens: int
    seconds: dict[str, float] = field(default_factory=lambda: {"rollout": 0.0, "reward": 0.0})
    dropped_groups: int = 0
    """Groups without variance that dynamic sampling replaced."""


def collect_episode(
    recipe: Recipe,
    source: PromptSource,
    generator: Generator,
    rewarder: Rewarder,
    step: int,
    watched_ids: tuple[int, ...] = (),
) -> Episode:
    """One episode: sample, grade, normalise. `step` counts from 0 and seeds the sampling; the probability of
    `watched_ids` is recorded with every token.

    With dynamic sampling, groups whose rewards are all equal are dropped and others sampled, at most
    `max_resamples` times (paper 5.5).
    """
    progress = step / recipe.algorithm.steps
    episode = Episode([], scheduled(recipe.rollout.length_schedule, progress, recipe.rollout.max_new_tokens))
    rollout = recipe.rollout
    sampling = Sampling(episode.max_new_tokens, rollout.temperature, rollout.top_p, watched_ids=watched_ids)
    difficulties = scheduled(recipe.algorithm.curriculum, progress, ())
    wanted = rollout.prompts_per_step
    rounds = recipe.algorithm.max_resamples if recipe.algorithm.dynamic_sampling else 0
    for attempt in range(rounds + 1):
        prompts = source.take(wanted - len(episode.groups), difficulties)
        started = time.perf_counter()
        completions = generator.generate(prompts, rollout.group_size, sampling, (recipe.seed, step, attempt))
        episode.seconds["rollout"] += time.perf_counter() - started
        groups = [RolloutGroup(prompt, group) for prompt, group in zip(prompts, completions, strict=True)]
        _grade(groups, rewarder, episode)
        keep = _set_advantages(groups, recipe.algorithm.normalize_std)
        if recipe.algorithm.dynamic_sampling and attempt < rounds:
            episode.dropped_groups += len(groups) - sum(keep)
            groups = [group for group, kept in zip(groups, keep, strict=True) if kept]
        episode.groups += groups
        if len(episode.groups) == wanted:
            break
    return episode


def _grade(groups: list[RolloutGroup], rewarder: Rewarder, episode: Episode) -> None:
    started = time.perf_counter()
    rewarder.score([(group.prompt.sample, completion) for group in groups for completion in group.completions])
    episode.seconds["reward"] += time.perf_counter() - started


def _set_advantages(groups: list[RolloutGroup], normalize_std: bool) -> list[bool]:
    """Write each completion's advantage; returns which groups have variance."""
    if not groups:
        return []
    rewards_PG = torch.tensor([group.rewards for group in groups], dtype=torch.float64)
    advantages_PG = group_advantages(rewards_PG, normalize_std=normalize_std)
    for group, row in zip(groups, advantages_PG.tolist(), strict=True):
        for completion, advantage in zip(group.completions, row, strict=True):
            completion.advantage = advantage
    return [bool(flag) for flag in has_variance(rewards_PG)]
