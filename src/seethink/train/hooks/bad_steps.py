"""Numbers that are not finite: the step is skipped, what it was made of is kept, and a run that cannot go on stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seethink.core.console import console
from seethink.core.errors import UserError
from seethink.core.files import is_write_failure, write_json
from seethink.core.types import Completion, Microbatch, Sample, Verdict
from seethink.rl.rollout import Episode

FOLDER = "bad_steps"

Record = dict[str, Any]


class BadNumbersError(UserError):
    """Too many skipped steps in a row; the message says what was not finite and what to do."""


class BadSteps:
    """Counts the skipped steps in a row and writes what each was made of to `bad_steps/step_N.json`."""

    def __init__(self, folder: Path, limit: int, in_row: int = 0) -> None:
        self._folder, self._limit, self.in_row = folder / FOLDER, limit, in_row
        self._last = ""

    def settle(self, step: int, faults: Sequence[str], samples: Callable[[], list[Record]]) -> dict[str, float]:
        """The metric of a step: how many of its updates were skipped. `samples` is asked only where one was."""
        if not faults:
            self.in_row = 0
            return {"optim/skipped": 0.0}
        self.in_row += 1
        what = ", ".join(dict.fromkeys(faults))
        path = self._folder / f"step_{step:06d}.json"
        self._last = f"{what} not finite in step {step}: {path}"
        found = samples()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"step": step, "not_finite": list(dict.fromkeys(faults)), "samples": found})
        except Exception as error:
            if not is_write_failure(error):
                raise
            self._last += f" (not written: {error})"
        console.print(
            f"SKIPPED STEP {step}: {what} not finite; weights and optimizer are as they were. Its "
            f"{len(found)} samples: {path} ({self.in_row} in a row, the run stops at {self._limit})",
            style="bold red", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        return {"optim/skipped": float(len(faults))}

    def stop_if_hopeless(self) -> None:
        """Raises BadNumbersError where `optim.max_bad_steps` steps in a row were skipped."""
        if self.in_row >= self._limit:
            raise BadNumbersError(
                f"{self.in_row} steps in a row were skipped ({self._last}); the weights are those before them. Lower "
                "optim.lr or look at the samples, then resume (--allow optim.lr), or raise optim.max_bad_steps"
            )


def episode_faults(episode: Episode) -> list[str]:
    """What is not finite before any training: a reward, an advantage, or a log-prob of the decoder."""
    completions = [c for group in episode.groups for c in group.completions]
    return sorted({fault for completion in completions for fault in completion_faults(completion)})


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
    where = {key: sample.meta[key] for key in ("file", "row") if key in sample.meta}
    return {"id": sample.id, **where, "answer": sample.answer}


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
