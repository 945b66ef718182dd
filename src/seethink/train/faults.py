"""What is not finite in a step, and which samples are to blame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seethink.core.types import Completion, Microbatch, Sample, Verdict
from seethink.rl.rollout import Episode
from seethink.train.step import Record


def episode_faults(episode: Episode) -> list[str]:
    """What is not finite before any training: a reward, an advantage, or a log-prob of the decoder."""
    return sorted({fault for completion in episode.completions for fault in completion_faults(completion)})


def completion_faults(completion: Completion) -> list[str]:
    """A reward of NaN is how a grade's error is masked, so it is in order where the grade says that."""
    masked = completion.grade is None or completion.grade.verdict is Verdict.ERROR
    faults = []
    if math.isinf(completion.reward) or (math.isnan(completion.reward) and not masked):
        faults.append("reward")
    if not math.isfinite(completion.advantage):
        faults.append("advantage")
    if not np.isfinite(completion.generator_logprobs).all():
        faults.append("generator log-prob")
    return faults


def episode_records(episode: Episode, found: dict[int, str]) -> list[Record]:
    """The completions that something is wrong with, or all of them where no single one is to blame.

    `found` has what the trainer's forward says of completion i (`offenders`).
    """
    records = []
    place = 0
    for group in episode.groups:
        for completion in group.completions:
            faults = completion_faults(completion) + ([found[place]] if place in found else [])
            place += 1
            records.append(
                _about(group.prompt.sample)
                | {
                    "reward": _json_number(completion.reward),
                    "advantage": _json_number(completion.advantage),
                    "tokens": len(completion.token_ids),
                    "text": completion.text,
                    "not_finite": faults,
                }
            )
    return [record for record in records if record["not_finite"]] or records


def sample_records(samples: Sequence[Sample], found: dict[int, str]) -> list[Record]:
    """The same for imitated responses."""
    records = [_about(s) | {"not_finite": [found[i]] if i in found else []} for i, s in enumerate(samples)]
    return [record for record in records if record["not_finite"]] or records


def offenders(batches: Sequence[Microbatch], logprobs: Sequence[Tensor]) -> dict[int, str]:
    """Sequences with a log-prob that is not finite; `logprobs` are [N] per micro-batch."""
    found: dict[int, str] = {}
    for batch, values in zip(batches, logprobs, strict=True):
        owners = batch.sequence_ids[batch.loss_mask]
        found |= {int(i): "log-prob" for i in owners[~torch.isfinite(values)].unique()}
    return found


def _about(sample: Sample) -> Record:
    where: Record = {key: sample.meta[key] for key in ("file", "row") if key in sample.meta}
    return {"id": sample.id, **where, "answer": sample.answer}


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
