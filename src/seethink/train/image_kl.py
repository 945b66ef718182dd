"""How much each token of a response depends on the picture: the KL of the policy to itself with a grey one."""

from __future__ import annotations

from collections.abc import Iterator

from seethink.core.types import Prompt, RolloutGroup
from seethink.data.control_images import blanked
from seethink.dist.agreement import from_all
from seethink.models.logprobs import kl_between
from seethink.rl.batching import Batcher, given_conversations
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
    seen = [group.prompt for group in episode.groups]
    grey = [chat.prompt(blanked(prompt.sample)) if prompt.mm_kwargs else prompt for prompt in seen]
    with policy.scoring():
        own = list(_score(policy, _sequences(episode.groups, seen), _sequences(episode.groups, grey), batcher))
    for place, values in (found for share in from_all(own) for found in share):
        completions[place].image_kl = values


def _sequences(groups: list[RolloutGroup], prompts: list[Prompt]) -> list[PackedSequence]:
    """The responses about pictures, after the given prompts; `index` counts all responses of the groups."""
    numbered = [
        (number, prompt, c)
        for number, (group, prompt) in enumerate(zip(groups, prompts, strict=True))
        for c in group.completions
    ]
    sequences = given_conversations([(prompt, c) for _, prompt, c in numbered])
    for (number, _, _), sequence in zip(numbered, sequences, strict=True):
        sequence.group = number
    return [sequence for sequence in sequences if sequence.mm_kwargs]


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
        owners = batch.sequence_ids[batch.loss_mask]
        for place in owners.unique().tolist():
            yield place, values[owners == place].tolist()
