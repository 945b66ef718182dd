"""Entropy statistics of every step of a run, without a second forward: metrics, and a line of entropy.jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seethink.config import Recipe
from seethink.core.types import Microbatch
from seethink.entropy.critical import Marks, watched_ids
from seethink.entropy.meter import EntropyMeter, GroupStats, Response, Tokens, group_stats, tail_threshold
from seethink.models.load import LoadedModel
from seethink.models.logprobs import mass_of
from seethink.models.scorer import TokenOutputs
from seethink.train.policy import LossFn


class EntropyLog:
    """What all steps share: the words, the ids that begin them, and the threshold that the first step sets."""

    def __init__(self, recipe: Recipe, loaded: LoadedModel, threshold: float | None = None) -> None:
        """`threshold` in nats is what a resumed run's first step has set."""
        log = recipe.log
        self._recipe, self._loaded, self._threshold = recipe, loaded, threshold
        self._vocabulary = int(loaded.model.config.get_text_config().vocab_size)
        self.meter = EntropyMeter(loaded.chat, log.critical_words, log.critical_window)
        self.watched_ids = watched_ids(loaded.chat, log.critical_words)
        self.record: dict[str, Any] = {}
        """The last step's line of entropy.jsonl, its number left out."""

    @property
    def state(self) -> dict[str, float | None]:
        """What a checkpoint must hold."""
        return {"entropy_threshold": self._threshold}

    def teacher_forced(self, responses: Sequence[Sequence[int]]) -> TeacherForced:
        """For a step's responses, given as token ids; their places are the batches' `sequence_ids`."""
        return TeacherForced(self._loaded, [self.meter.marks(ids) for ids in responses], self.watched_ids)

    def step(self, tokens: Tokens) -> dict[str, float]:
        """Measure a step's tokens; returns the metrics that have a value."""
        if self._threshold is None:
            log = self._recipe.log
            self._threshold = tail_threshold(log.entropy_threshold, self._vocabulary, tokens.entropies)
        groups = group_stats(tokens, self._threshold)
        self.record = {
            "stage": self._recipe.stage,
            "threshold": self._threshold,
            "words": list(self._recipe.log.critical_words),
            "groups": {name: group.as_json() for name, group in groups.items()},
        }
        return _metrics(groups, tokens.critical_mass().mean)


class TeacherForced:
    """What the training forward says of given responses' tokens: entropies, and the mass of critical words where a
    sentence starts (the output head once more, on those places alone)."""

    def __init__(self, loaded: LoadedModel, marks: list[Marks], watched: tuple[int, ...]) -> None:
        self._loaded, self._marks, self._watched = loaded, marks, watched
        self._starts = [torch.from_numpy(m.starts) for m in marks]

    def watch(self, loss_fn: LossFn) -> LossFn:
        """The same loss, with what `tokens` needs among its per-token metrics."""

        def watched(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
            loss, metrics = loss_fn(outputs, batch)
            owners = batch.sequence_ids[batch.loss_mask]
            starts = torch.cat([self._starts[i] for i in owners.unique_consecutive().tolist()])
            with self._loaded.autocast():
                mass = mass_of(
                    self._loaded.model,
                    outputs.hidden.detach(),
                    starts.to(owners.device),
                    self._watched,
                    banned_ids=self._loaded.banned_ids,
                )
            return loss, metrics | {"entropy/owner": owners, "entropy/mass": mass}

        return watched

    def tokens(self, joined: dict[str, Tensor]) -> Tokens:
        """The step's tokens, from the per-token metrics of `Policy.forward_backward`."""
        owners, counts = joined["entropy/owner"].unique_consecutive(return_counts=True)
        parts = zip(
            *(joined[key].cpu().split(counts.tolist()) for key in ("entropy/token", "entropy/mass")), strict=True
        )
        return Tokens.of(
            [
                Response(owner, entropies.tolist(), self._marks[owner], masses.tolist())
                for owner, (entropies, masses) in zip(owners.tolist(), parts, strict=True)
            ],
            len(self._marks),
        )


def _metrics(groups: dict[str, GroupStats], critical_mass: float) -> dict[str, float]:
    everything = groups["all"]
    values = {
        "entropy/mean": everything.sketch.mean,
        **{f"entropy/p{round(100 * share)}": everything.sketch.quantile(share) for share in (0.5, 0.9, 0.99)},
        "entropy/tail_share": everything.tail.mean,
        **{f"entropy/{name}": groups[name].sketch.mean for name in ("critical", "following", "correct", "wrong")},
        "entropy/critical_count": float(groups["critical"].sketch.count),
        "entropy/critical_mass": critical_mass,
    }
    return {key: value for key, value in values.items() if math.isfinite(value)}
