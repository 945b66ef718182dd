"""How much each token of a response depends on the picture: the KL of the policy to itself with a grey one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from seethink.core.types import RolloutGroup
from seethink.data.control_images import blanked
from seethink.dist.agreement import from_all
from seethink.models.logprobs import kl_between
from seethink.rl.batching import Batcher, given_groups, tokens_by_index
from seethink.rl.packing import PackedSequence
from seethink.rl.rollout import Episode
from seethink.train.policy import Policy


def measure_image_kl(policy: Policy, episode: Episode, batcher: Batcher) -> None:
    """Set `image_kl` of the completions of an episode; 0 where a prompt has no picture.

    Two forwards without gradient per response about a picture. Each rank scores its share of the groups. Source:
    arXiv 2510.09285, equation 4, with a mid-grey picture of the same size as the one that shows nothing.
    """
    chat, completions = policy.loaded.chat, episode.completions
    for one in completions:
        one.image_kl = [0.0] * len(one.token_ids)
    if not any(group.prompt.mm_kwargs for group in episode.groups):
        return
    grey = [
        replace(group, prompt=chat.prompt(blanked(group.prompt.sample))) if group.prompt.mm_kwargs else group
        for group in episode.groups
    ]
    with policy.scoring():
        own = list(_score(policy, _about_pictures(episode.groups), _about_pictures(grey), batcher))
    for place, values in (found for share in from_all(own) for found in share):
        completions[place].image_kl = values


def _about_pictures(groups: list[RolloutGroup]) -> list[PackedSequence]:
    return [sequence for sequence in given_groups(groups) if sequence.mm_kwargs]


def _score(
    policy: Policy, seen: list[PackedSequence], grey: list[PackedSequence], batcher: Batcher
) -> Iterator[tuple[int, list[float]]]:
    """(place, values) of this rank's responses."""
    loaded, temperature = policy.loaded, policy.temperature
    views = [policy.deal(batcher, sequences) for sequences in (seen, grey)]
    outputs = [policy.outputs(batches) for batches in views]
    for batch, one, other in zip(views[0], *outputs, strict=True):
        if batch.idle:
            continue
        with loaded.autocast():
            values = kl_between(
                loaded.model, one.hidden, other.hidden, temperature=temperature, banned_ids=loaded.banned_ids
            )
        for place, chosen in tokens_by_index(batch):
            yield place, values[chosen].tolist()
