"""What an episode says in numbers, and the rollouts kept for the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from seethink.config import Recipe
from seethink.core.text_measures import text_metrics
from seethink.core.types import RolloutGroup
from seethink.rl.rollout import Episode
from seethink.runs.metrics import spare
from seethink.runs.rollouts import store_rollouts
from seethink.train.hooks.entropy import EntropyLog


class EpisodeRecorder:
    """Metrics of every episode, rollouts of some."""

    def __init__(self, folder: Path, recipe: Recipe, entropy: EntropyLog) -> None:
        self._folder, self._recipe, self._entropy = folder, recipe, entropy

    def metrics(self, episode: Episode) -> dict[str, float]:
        completions = [c for group in episode.groups for c in group.completions]
        graded = [c for c in completions if math.isfinite(c.reward)]
        lengths = [len(c.token_ids) for c in completions]
        rewards = [c.reward for c in graded] or [math.nan]
        seconds = episode.seconds
        return {
            "reward/mean": float(np.mean(rewards)),
            "reward/std": float(np.std(rewards)),
            **{f"reward/{part}": _mean([c.reward_parts[part] for c in graded]) for part in ("accuracy", "format")},
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
            **self._entropy.step(self._entropy.meter.tokens([group.completions for group in episode.groups])),
        }

    def store(self, episode: Episode, step: int) -> None:
        """Keep some groups of every `log.rollouts_every`-th step for the viewer."""
        log = self._recipe.log
        if step == 1 or step % log.rollouts_every == 0:
            path = self._folder / "rollouts" / f"step_{step:06d}.jsonl"
            with spare(f"rollouts/{path.name}"):
                store_rollouts(path, self._folder, episode.groups[: log.rollouts_kept], step, self._entropy.meter)


def _is_flat(group: RolloutGroup) -> bool:
    rewards = [r for r in group.rewards if math.isfinite(r)]
    return not rewards or max(rewards) == min(rewards)


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan
