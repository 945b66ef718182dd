"""What an episode says in numbers, and the rollouts kept for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seethink.config import LogConfig
from seethink.core.text_measures import text_metrics
from seethink.core.types import Completion, RolloutGroup
from seethink.entropy.meter import EntropyMeter
from seethink.rl.rollout import Episode
from seethink.runs.metrics import expendable
from seethink.runs.rollouts import rollouts_file, store_rollouts
from seethink.train.hook import Hook
from seethink.train.step import StepResult


class EpisodeLog(Hook):
    """Metrics of every episode, and the rollouts of some for the report's viewer."""

    def __init__(self, folder: Path, log: LogConfig, meter: EntropyMeter, *, tools: bool = False) -> None:
        """`tools`: whether an environment answers the model's turns."""
        self._folder, self._log, self._meter, self._tools = folder, log, meter, tools

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        assert result.episode is not None
        if step == 1 or step % self._log.rollouts_every == 0:
            self._store(result.episode.groups[: self._log.rollouts_kept], step)
        return episode_metrics(result.episode) | (tool_metrics(result.episode) if self._tools else {})

    def _store(self, groups: list[RolloutGroup], step: int) -> None:
        path = rollouts_file(self._folder, step)
        with expendable(f"rollouts/{path.name}"):
            store_rollouts(path, self._folder, groups, step, self._meter)


def episode_metrics(episode: Episode) -> dict[str, float]:
    """Rewards, advantages, lengths and speed; metric keys are stable."""
    completions = episode.completions
    graded = [c for c in completions if math.isfinite(c.reward)]
    lengths = [len(c.token_ids) for c in completions]
    rewards = [c.reward for c in graded] or [math.nan]
    seconds = episode.seconds
    return {
        "reward/mean": float(np.mean(rewards)),
        "reward/std": float(np.std(rewards)),
        **{f"reward/{part}": _mean([c.reward_parts[part] for c in graded]) for part in ("accuracy", "format")},
        "reward/uncertain": uncertain_reward(graded),
        "reward/masked": 1 - len(graded) / len(completions),
        "advantage/std": float(np.std([c.advantage for c in completions])),
        "advantage/max": float(np.max([c.advantage for c in completions])),
        "advantage/zero_variance_share": _mean([_is_flat(group) for group in episode.groups]),
        "advantage/dropped_groups": float(episode.dropped_groups),
        "response/length_mean": float(np.mean(lengths)),
        "response/length_max": float(np.max(lengths)),
        "response/truncated_share": _mean([c.truncated for c in completions]),
        "time/rollout_s": seconds["rollout"],
        "time/reward_s": seconds["reward"],
        "throughput/generated_tokens_per_s": sum(lengths) / max(seconds["rollout"], 1e-9),
        **text_metrics([(group.prompt.sample, c) for group in episode.groups for c in group.completions]),
    }


def uncertain_reward(completions: Sequence[Completion]) -> float:
    """Mean reward of the tenth whose tokens were least likely on average, at least one; NaN of none.

    What uncertainty-guided checkpoint selection averages over a window of steps (arXiv 2511.09864).
    """
    likeliest_last = sorted((c for c in completions if c.token_ids), key=lambda c: float(np.mean(c.generator_logprobs)))
    return _mean([c.reward for c in likeliest_last[: max(1, len(likeliest_last) // 10)]])


def tool_metrics(episode: Episode) -> dict[str, float]:
    """Calls of the environment: how many per completion, and the share of them that failed (NaN without a call)."""
    replies = [reply for completion in episode.completions for reply in completion.replies]
    return {
        "tools/calls_mean": _mean([len(completion.replies) for completion in episode.completions]),
        "tools/called_share": _mean([bool(completion.replies) for completion in episode.completions]),
        "tools/failed_share": _mean([reply.failed for reply in replies]),
        "reward/environment": _mean([completion.environment_reward for completion in episode.completions]),
    }


def _is_flat(group: RolloutGroup) -> bool:
    rewards = [r for r in group.rewards if math.isfinite(r)]
    return not rewards or max(rewards) == min(rewards)


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan
