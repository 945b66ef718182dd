"""Entropies of a step's tokens, without a second forward where the generator or the training forward has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seethink.core.types import Microbatch
from seethink.dist.agreement import from_all
from seethink.entropy.critical import Marks, watched_ids
from seethink.entropy.meter import EntropyMeter, Response, Tokens
from seethink.models.logprobs import mass_of
from seethink.models.scorer import TokenOutputs
from seethink.rl.batching import Batcher, given_groups, tokens_by_index
from seethink.rl.rollout import Episode
from seethink.train.policy import LossFn, Policy


class EntropyProbe:
    """What all steps of a run share: the critical words, and the ids that begin them."""

    def __init__(self, policy: Policy, words: tuple[str, ...], window: int) -> None:
        chat = policy.loaded.chat
        self._policy = policy
        self.meter = EntropyMeter(chat, words, window)
        self.watched_ids = watched_ids(chat, words)

    def sampled(self, episode: Episode) -> Tokens:
        """The tokens of an episode, with the entropies of its completions."""
        return self.meter.tokens([group.completions for group in episode.groups])

    def complete(self, episode: Episode, batcher: Batcher) -> None:
        """Take entropies and watched mass from the trainer's forward where the generator cannot give them.

        A server knows the log-probs of a few tokens, not the whole vocabulary. On-policy, the trainer's distribution is
        the one that was sampled from; with rollouts ahead it is that of the weights one step later. Each rank scores
        its share of the groups.
        """
        if all(c.entropies or not c.token_ids for c in episode.completions):
            return
        with self._policy.scoring():
            own = list(self._score(self._policy.deal(batcher, given_groups(episode.groups))))
        completions = episode.completions
        for place, entropies, masses in (found for share in from_all(own) for found in share):
            completions[place].entropies, completions[place].watched_mass = entropies, masses

    def _score(self, batches: Sequence[Microbatch]) -> Iterator[tuple[int, list[float], list[float]]]:
        for batch, outputs in zip(batches, self._policy.outputs(batches), strict=True):
            if batch.idle:
                continue
            mass = self._mass(outputs.hidden, torch.ones_like(outputs.entropies, dtype=torch.bool))
            for place, chosen in tokens_by_index(batch):
                masses = mass[chosen].tolist() if self.watched_ids else []
                yield place, outputs.entropies[chosen].tolist(), masses

    def teacher_forced(self, responses: Sequence[Sequence[int]]) -> TeacherForced:
        """For a step's responses, given as token ids; their places are the batches' `sequence_ids`."""
        return TeacherForced(self, [self.meter.marks(ids) for ids in responses])

    def _mass(self, hidden: Tensor, chosen: Tensor) -> Tensor:
        loaded = self._policy.loaded
        with loaded.autocast():
            return mass_of(loaded.model, hidden, chosen, self.watched_ids, banned_ids=loaded.banned_ids)


class TeacherForced:
    """What the training forward says of given responses' tokens: entropies, and the mass of critical words where a
    sentence starts (the output head once more, in those places alone)."""

    def __init__(self, probe: EntropyProbe, marks: list[Marks]) -> None:
        self._probe, self._marks = probe, marks
        self._starts = [torch.from_numpy(m.starts) for m in marks]

    def watch(self, loss_fn: LossFn) -> LossFn:
        """The same loss, with what `tokens` needs among its per-token metrics."""

        def watched(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
            loss, metrics = loss_fn(outputs, batch)
            owners = batch.sequence_ids[batch.loss_mask]
            starts = torch.cat([self._starts[i] for i in owners.unique_consecutive().tolist()])
            mass = self._probe._mass(outputs.hidden.detach(), starts.to(owners.device))
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
