"""What an episode says in numbers, and the rollouts kept for the report."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from seethink.analysis.denials import hallucinations
from seethink.analysis.entropy import EntropyMeter
from seethink.analysis.text_stats import text_metrics
from seethink.atomic import write_text
from seethink.config import Recipe
from seethink.data.images import ImageRef
from seethink.rl.rollout import Episode
from seethink.train.entropy_log import EntropyLog
from seethink.train.metrics import spare
from seethink.types import Completion, RolloutGroup


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


def store_rollouts(path: Path, folder: Path, groups: list[RolloutGroup], step: int, meter: EntropyMeter) -> None:
    """One JSON line a group; images go to `folder/images` once each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(_group_record(group, folder, step, meter)) for group in groups]
    write_text(path, "\n".join(lines) + "\n")


def _group_record(group: RolloutGroup, folder: Path, step: int, meter: EntropyMeter) -> dict[str, Any]:
    sample = group.prompt.sample
    return {
        "step": step,
        "id": sample.id,
        "domain": sample.domain,
        "difficulty": sample.difficulty,
        "question": sample.question,
        "system": sample.system,
        "images": [_store_image(image, folder) for image in sample.images],
        "answer": sample.answer,
        "choices": list(sample.choices),
        "completions": [
            _completion_record(c, meter) | {"hallucinated": hallucinations(sample, c.text)} for c in group.completions
        ],
    }


def _completion_record(completion: Completion, meter: EntropyMeter) -> dict[str, Any]:
    grade = completion.grade
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "tokens": meter.texts(completion.token_ids),
        "entropies": [round(e, 4) for e in completion.entropies],
        "critical": meter.marks(completion.token_ids).critical.tolist(),
        "reward": completion.reward if math.isfinite(completion.reward) else None,
        "reward_parts": {k: v for k, v in completion.reward_parts.items() if math.isfinite(v)},
        "advantage": round(completion.advantage, 4),
        "verdict": str(grade.verdict) if grade else None,
        "extracted": grade.extracted if grade else None,
        "truncated": completion.truncated,
    }


def _store_image(image: Image | ImageRef, folder: Path) -> str:
    digest = image.sha256 if isinstance(image, ImageRef) else hashlib.sha256(image.tobytes()).hexdigest()
    name = f"images/{digest[:16]}.png"
    target = folder / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # In one move: a picture is written once, and a killed run must not leave half of one.
        waiting = target.with_suffix(".tmp")
        (image.load() if isinstance(image, ImageRef) else image).save(waiting, format="PNG")
        os.replace(waiting, target)
    return name


def _is_flat(group: RolloutGroup) -> bool:
    rewards = [r for r in group.rewards if math.isfinite(r)]
    return not rewards or max(rewards) == min(rewards)


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan
