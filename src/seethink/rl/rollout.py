"""Prompts -> groups of graded completions with advantages: what an episode learns from (paper 3.3)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from seethink.config import AlgorithmConfig, RolloutConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt, RolloutGroup, Sample
from seethink.data.chat import Chat
from seethink.data.draws import Draws
from seethink.data.mixture import Weights
from seethink.data.prompts import KEPT_BYTES, PromptList
from seethink.generate.protocol import Generator, Sampling
from seethink.rewards.rewarder import Rewarder
from seethink.rl.advantages import group_advantages, has_variance

V = TypeVar("V")


class StaleCompletionError(RuntimeError):
    """A generator answered with the weights of another step than the one that is trained."""


def scheduled(schedule: tuple[tuple[float, V], ...], progress: float, default: V) -> V:
    """The last entry whose share of training has been reached."""
    reached = [value for share, value in sorted(schedule, key=lambda pair: pair[0]) if progress >= share]
    return reached[-1] if reached else default


class PromptSource:
    """An endless, resumable order of prompts, one for every curriculum pool."""

    def __init__(
        self,
        samples: list[Sample],
        chat: Chat,
        seed: int,
        weights: Weights = Weights(),  # noqa: B008
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._samples, self._seed, self.weights = samples, seed, weights
        self._prompts = PromptList(samples, chat, kept_bytes=kept_bytes)
        self.position = 0
        """Prompts taken so far; all that a resumed run needs."""
        self._pools: dict[tuple[str, ...], tuple[list[int], Draws]] = {}

    @property
    def chat(self) -> Chat:
        return self._prompts.chat

    def take(self, count: int, difficulties: tuple[str, ...] = ()) -> list[Prompt]:
        """The next `count` prompts, of these difficulties where any are named."""
        pool, draws = self._pool(difficulties)
        taken = draws.take(self.position, count)
        self.position += count
        return [self._prompts[pool[i]] for i in taken]

    def _pool(self, difficulties: tuple[str, ...]) -> tuple[list[int], Draws]:
        """(places of the samples of these difficulties, the order in which they are drawn)."""
        if difficulties not in self._pools:
            pool = [i for i, s in enumerate(self._samples) if not difficulties or s.difficulty in difficulties]
            if not pool:
                known = sorted({s.difficulty for s in self._samples})
                raise UserError(f"algorithm.curriculum names {list(difficulties)}, but the data has only {known}")
            draws = self.weights.draws([self._samples[i] for i in pool], self._seed)
            self._pools[difficulties] = pool, draws
        return self._pools[difficulties]


@dataclass(frozen=True, slots=True)
class FirstRound:
    """What has been sampled for an episode before it is collected."""

    groups: list[RolloutGroup]
    seconds: float


@dataclass(slots=True)
class Episode:
    """The groups of one step, and how long making them took."""

    groups: list[RolloutGroup]
    max_new_tokens: int
    seconds: dict[str, float] = field(default_factory=lambda: {"rollout": 0.0, "reward": 0.0})
    dropped_groups: int = 0
    """Groups without variance that dynamic sampling replaced."""

    @property
    def completions(self) -> list[Completion]:
        return [completion for group in self.groups for completion in group.completions]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What an episode is made with: where prompts come from, what samples them, what grades them."""

    source: PromptSource
    generator: Generator
    rewarder: Rewarder
    rollout: RolloutConfig
    algorithm: AlgorithmConfig
    seed: int
    watched_ids: tuple[int, ...] = ()
    """Tokens whose probability is recorded wherever a token is drawn."""

    @property
    def sampled(self) -> int:
        """Completions sampled so far, those of dropped groups included: a whole group of every prompt taken."""
        return self.source.position * self.rollout.group_size

    @property
    def prompts_left(self) -> int:
        """How many more prompts `algorithm.samples` allows."""
        limit = self.algorithm.samples
        return max(0, limit - self.sampled) // self.rollout.group_size if limit else sys.maxsize

    def sampling(self, step: int) -> Sampling:
        """How the completions of a step, counted from 0, are drawn."""
        rollout = self.rollout
        longest = scheduled(rollout.length_schedule, step / self.algorithm.steps, rollout.max_new_tokens)
        return Sampling(longest, rollout.temperature, rollout.top_p, watched_ids=self.watched_ids)

    def take(self, step: int, count: int) -> list[Prompt]:
        """The next prompts for a step."""
        return self.source.take(count, scheduled(self.algorithm.curriculum, step / self.algorithm.steps, ()))

    def collect(self, step: int, first: FirstRound | None = None) -> Episode:
        """One episode: sample, grade, normalise. `step` counts from 0 and seeds the sampling.

        `first` is what has been sampled for it already. With dynamic sampling, groups whose rewards are all equal are
        dropped and others sampled, at most `max_resamples` times (paper 5.5); what is sampled last is kept.
        """
        algorithm, wanted = self.algorithm, min(self.rollout.prompts_per_step, self.prompts_left)
        episode = Episode([], self.sampling(step).max_new_tokens)
        rounds = algorithm.max_resamples if algorithm.dynamic_sampling else 0
        for attempt in range(rounds + 1):
            if first is not None and attempt == 0:
                groups, episode.seconds["rollout"] = first.groups, first.seconds
            else:
                count = min(wanted - len(episode.groups), self.prompts_left)
                groups = self._sample(self.take(step, count), step, attempt, episode)
            self._grade(groups, episode)
            keep = set_advantages(groups, normalize_std=algorithm.normalize_std)
            last = attempt == rounds or not self.prompts_left
            if not last:
                episode.dropped_groups += len(groups) - sum(keep)
                groups = [group for group, kept in zip(groups, keep, strict=True) if kept]
            episode.groups += groups
            if last or len(episode.groups) == wanted:
                break
        return episode

    def _sample(self, prompts: list[Prompt], step: int, attempt: int, episode: Episode) -> list[RolloutGroup]:
        started, seed = time.perf_counter(), (self.seed, step, attempt)
        completions = self.generator.generate(prompts, self.rollout.group_size, self.sampling(step), seed)
        episode.seconds["rollout"] += time.perf_counter() - started
        return [RolloutGroup(prompt, group) for prompt, group in zip(prompts, completions, strict=True)]

    def _grade(self, groups: list[RolloutGroup], episode: Episode) -> None:
        started = time.perf_counter()
        self.rewarder.score([(group.prompt.sample, completion) for group in groups for completion in group.completions])
        episode.seconds["reward"] += time.perf_counter() - started


def set_advantages(groups: list[RolloutGroup], *, normalize_std: bool) -> list[bool]:
    """Write each completion's advantage (paper eq. 7); returns which groups have variance."""
    if not groups:
        return []
    rewards_PG = torch.tensor([group.rewards for group in groups], dtype=torch.float64)
    advantages_PG = group_advantages(rewards_PG, normalize_std=normalize_std)
    for group, row in zip(groups, advantages_PG.tolist(), strict=True):
        for completion, advantage in zip(group.completions, row, strict=True):
            completion.advantage = advantage
    return [bool(flag) for flag in has_variance(rewards_PG)]


def refuse_stale(episode: Episode, *versions: int) -> None:
    """Raises StaleCompletionError where a completion was not sampled from the weights of one of `versions`, of which
    the last are those that are trained (paper 3.3: strictly on-policy)."""
    stale = sorted({c.policy_version for c in episode.completions} - {*versions})
    if stale:
        raise StaleCompletionError(
            f"completions were sampled from the weights of version {', '.join(map(str, stale))}, but training is at "
            f"version {versions[-1]}: the generator was not given the new weights (`Generator.load_weights`)"
        )
