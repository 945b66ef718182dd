"""What a run cannot do with videos, said before its first step."""

from __future__ import annotations

from collections.abc import Iterable

from seethink.config import Recipe
from seethink.core.types import Sample
from seethink.data.quarantine import DataError
from seethink.dist.world import world_size


def refuse_videos(recipe: Recipe, samples: Iterable[Sample]) -> None:
    """Raises DataError, which names the first row with a video, where vLLM samples or ZeRO-3 shares the layers."""
    shown = next((sample for sample in samples if sample.videos), None)
    if shown is None:
        return
    place = f"{shown.meta.get('file', 'sample')}, row {shown.meta.get('row', shown.id)}"
    if recipe.stage != "sft" and recipe.rollout.engine == "vllm":
        raise DataError(
            f"{place}: the row has a video, and rollouts with videos are sampled in the trainer's process alone; set "
            "rollout.engine=in_process"
        )
    if recipe.cluster.shard == "zero3" and world_size() > 1:
        raise DataError(
            f"{place}: the row has a video; with cluster.shard=zero3 ranks would encode videos and images at different "
            "times and wait for each other; set cluster.shard=zero2"
        )
