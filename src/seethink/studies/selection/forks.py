"""Critical-token entropy at fixed places: what a checkpoint would say where one reference model turned.

The critical tokens of a checkpoint's own responses are few, and fewer as it trains, and the mean of their entropies is
over other places at every checkpoint. Here places are found once, and all checkpoints are measured at all of them.

Letter: F forks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seethink.core.types import Completion, RolloutGroup
from seethink.data.prompts import PromptList
from seethink.entropy.meter import EntropyMeter
from seethink.models.load import LoadedModel
from seethink.studies.entropy.measurement import AT_ONCE, EntropySettings, score_groups


@dataclass(frozen=True, slots=True)
class Fork:
    """A place where a critical word was drawn."""

    item: int
    """The prompt, by its place in their list."""
    token_ids: tuple[int, ...]
    """The response up to its first critical word, whose first token is the last of these."""


def find_forks(responses: Sequence[Sequence[Completion]], meter: EntropyMeter, most: int) -> list[Fork]:
    """The first critical token of every response [P][any] that has one; no more than `most`, from the first prompts.

    One of a response alone: others of the same text would say much the same.
    """
    found = []
    for item, group in enumerate(responses):
        for completion in group:
            places = np.flatnonzero(meter.marks(completion.token_ids).critical)
            if len(places):
                found.append(Fork(item, tuple(completion.token_ids[: places[0] + 1])))
    return found[:most]


def fork_entropies(
    loaded: LoadedModel, prompts: PromptList, forks: Sequence[Fork], settings: EntropySettings
) -> np.ndarray:
    """[F] Entropy in nats of what the model says at each fork, given the image, the question and all before it."""
    meter = EntropyMeter(loaded.chat, settings.words, settings.window)
    entropies = np.zeros(len(forks))
    items = list(dict.fromkeys(fork.item for fork in forks))
    for start in range(0, len(items), AT_ONCE):
        chosen = [[i for i, fork in enumerate(forks) if fork.item == item] for item in items[start : start + AT_ONCE]]
        groups = [RolloutGroup(prompts[forks[own[0]].item], [_said(forks[i]) for i in own]) for own in chosen]
        scored = score_groups(loaded, groups, settings, meter)
        for own, completions in zip(chosen, scored, strict=True):
            entropies[own] = [completion.entropies[-1] for completion in completions]
    return entropies


def _said(fork: Fork) -> Completion:
    return Completion(list(fork.token_ids), [], [], "", False, 0)
