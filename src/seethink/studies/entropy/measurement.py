"""Entropy of any checkpoint: of newly sampled responses, or of stored ones that one forward scores (paper 5.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from seethink.config import LogConfig, RewardConfig
from seethink.core.console import progress_bar
from seethink.core.types import Completion, Microbatch, RolloutGroup, Verdict
from seethink.data.prompts import PromptList
from seethink.entropy.critical import watched_ids
from seethink.entropy.meter import (
    EntropyMeter,
    Estimate,
    GroupStats,
    group_stats,
    tail_threshold,
)
from seethink.eval.runner import draw_graded
from seethink.eval.task import Task
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models import shared_prompt
from seethink.models.load import LoadedModel
from seethink.models.logprobs import mass_of, token_logprobs
from seethink.rewards.rewarder import Rewarder
from seethink.rl.packing import PackedSequence, pack
from seethink.rl.prompt_groups import pack_groups

AT_ONCE = 64
"""Prompts whose pixel tensors are in memory at a time while responses are scored."""
MICRO_TOKENS = 8192
PACK_LENGTH = 512


@dataclass(frozen=True, slots=True)
class EntropySettings:
    """What is measured, and how responses are sampled."""

    words: tuple[str, ...] = LogConfig().critical_words
    window: int = LogConfig().critical_window
    """Tokens after a critical word that count as following it."""
    threshold: float | None = None
    """Nats above which a token is in the tail; None: the default of `tail_threshold`."""
    samples: int = 4
    """Responses per prompt."""
    max_new_tokens: int = 160
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class EntropyReport:
    """Entropy of one checkpoint on some prompts."""

    model: str
    how: str
    """`sampled`, or `rescored`."""
    seed: int
    settings: EntropySettings
    threshold: float
    """Nats."""
    prompts: list[str]
    """[K] Ids, in the order of the sums and counts of every estimate."""
    completions: int
    groups: dict[str, GroupStats]
    """`all`, `critical`, `following`, `correct`, `wrong`, `position_0` ... `position_9`."""
    critical_mass: Estimate
    """Mean probability of a critical word where a sentence starts."""
    accuracy: Estimate
    """Mean accuracy of the graded responses."""

    @property
    def critical(self) -> Estimate:
        """Entropy where critical words were drawn, by which the paper chooses checkpoints."""
        return self.groups["critical"].estimate


def measure_entropy(
    loaded: LoadedModel,
    task: Task,
    settings: EntropySettings | None = None,
    *,
    seed: int = 0,
    rewarder: Rewarder | None = None,
) -> EntropyReport:
    """Sample `settings.samples` responses per prompt, the same ones that `seethink eval` draws, and measure them.

    To compare checkpoints, use the first one's threshold for all: `replace(settings, threshold=report.threshold)`.
    """
    settings = settings or EntropySettings()
    watched = watched_ids(loaded.chat, settings.words)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, watched_ids=watched)
    generator, prompts = make_generator(loaded), PromptList(task.samples, loaded.chat)
    rewarder = rewarder or Rewarder(RewardConfig())
    groups = draw_graded(
        task, generator, prompts, rewarder, settings.samples, sampling, seed, label="entropy: sampling"
    )
    ids = [sample.id for sample in task.samples]
    return _report(loaded, ids, groups, settings, "sampled", seed)


def rescore_entropy(
    loaded: LoadedModel,
    prompts: PromptList,
    responses: Sequence[Sequence[Completion]],
    settings: EntropySettings | None = None,
    *,
    rewarder: Rewarder | None = None,
) -> EntropyReport:
    """Measure stored responses [P][any] under this model: what it would have said at every place of them.

    Those without a verdict are graded where their question has an answer.
    """
    settings = settings or EntropySettings()
    meter = EntropyMeter(loaded.chat, settings.words, settings.window)
    pairs = [(s, c) for s, group in zip(prompts.samples, responses, strict=True) for c in group]
    (rewarder or Rewarder(RewardConfig())).score([(s, c) for s, c in pairs if c.grade is None and s.answer])
    scored: list[list[Completion]] = []
    with progress_bar("entropy: scoring", len(prompts)) as advance:
        for start in range(0, len(prompts), AT_ONCE):
            places = range(start, min(start + AT_ONCE, len(prompts)))
            groups = [RolloutGroup(prompts[i], list(responses[i])) for i in places]
            scored += score_groups(loaded, groups, settings, meter)
            advance(len(places), "")
    return _report(loaded, [sample.id for sample in prompts.samples], scored, settings, "rescored", 0)


@torch.no_grad()
def score_groups(
    loaded: LoadedModel, groups: Sequence[RolloutGroup], settings: EntropySettings, meter: EntropyMeter
) -> list[list[Completion]]:
    """The completions with the entropies and critical masses that this model gives their tokens.

    The mass is computed where a sentence starts, and is NaN elsewhere.
    """
    flat = [(number, c) for number, group in enumerate(groups) for c in group.completions]
    starts = [torch.from_numpy(meter.marks(c.token_ids).starts) for _, c in flat]
    watched = watched_ids(loaded.chat, settings.words)
    common: dict[str, Any] = {"temperature": settings.temperature, "banned_ids": loaded.banned_ids}
    found: list[Completion | None] = [None] * len(flat)
    for batch in _batches(loaded, groups, flat):
        with loaded.autocast():
            _, entropies, hidden = token_logprobs(loaded.model, batch, **common)
            owners, counts = torch.unique_consecutive(batch.sequence_ids[batch.loss_mask], return_counts=True)
            chosen = torch.cat([starts[place] for place in owners.tolist()]).to(hidden.device)
            masses = mass_of(loaded.model, hidden, chosen, watched, **common)
        parts = zip(*(torch.split(values, counts.tolist()) for values in (entropies, masses)), strict=True)
        for place, (entropy, mass) in zip(owners.tolist(), parts, strict=True):
            found[place] = replace(flat[place][1], entropies=entropy.tolist(), watched_mass=mass.tolist())
    scored: list[list[Completion]] = [[] for _ in groups]
    for (number, before), after in zip(flat, found, strict=True):
        # A response without a token has nothing to score.
        scored[number].append(after or before)
    return scored


def _batches(
    loaded: LoadedModel, groups: Sequence[RolloutGroup], flat: list[tuple[int, Completion]]
) -> list[Microbatch]:
    """Teacher-forced micro-batches, prompts shared where the model allows it."""
    sequences = [
        PackedSequence(p.input_ids, c.token_ids, p.mm_kwargs, index=place, rope_ids=p.rope_ids, group=number)
        for place, (number, c) in enumerate(flat)
        if c.token_ids
        for p in [groups[number].prompt]
    ]
    pad_id, device = loaded.chat.pad_id, loaded.device
    if shared_prompt.refusal(loaded.model) is None:
        packed = pack_groups(sequences, micro_tokens=MICRO_TOKENS, pad_id=pad_id, device=device)
    else:
        length = loaded.pack_length(PACK_LENGTH)
        packed = pack(sequences, pack_length=length, micro_tokens=MICRO_TOKENS, pad_id=pad_id)
    return [batch.to(device) for batch in packed]


def _report(
    loaded: LoadedModel,
    ids: list[str],
    groups: Sequence[Sequence[Completion]],
    settings: EntropySettings,
    how: str,
    seed: int,
) -> EntropyReport:
    meter = EntropyMeter(loaded.chat, settings.words, settings.window)
    tokens = meter.tokens(groups)
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    threshold = tail_threshold(settings.threshold, vocabulary, tokens.entropies)
    return EntropyReport(
        model=loaded.source,
        how=how,
        seed=seed,
        settings=settings,
        threshold=threshold,
        prompts=ids,
        completions=sum(map(len, groups)),
        groups=group_stats(tokens, threshold),
        critical_mass=tokens.critical_mass(),
        accuracy=_accuracy(groups),
    )


def _accuracy(groups: Sequence[Sequence[Completion]]) -> Estimate:
    graded = [[c.grade.accuracy for c in g if c.grade and c.grade.verdict is not Verdict.ERROR] for g in groups]
    return Estimate(np.array([math.fsum(own) for own in graded]), np.array([len(own) for own in graded]))
