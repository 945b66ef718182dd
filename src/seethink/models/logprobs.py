"""Exact log-probabilities and entropies of the policy, from hidden states or logits.

Letters: B rows, T tokens, N selected positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from seethink.core.types import Microbatch
from seethink.models.forward import hidden_states, model_positions, to_logits, vocabulary_size
from seethink.models.sequence_share import SequenceShare, share_of
from seethink.models.shared_prompt import SharedPrompt

LOGITS = 2**24
"""Logits that exist at one time, whatever the vocabulary; backward computes the others again."""
LEAST = -1e4
"""A log-probability whose probability is 0 in every dtype, and that gradients can be multiplied with."""
PROBABILITIES = 2**18
"""Probabilities that a CPU sums to entropies at one time, so that half a dozen intermediate results, one of them in
float64, stay in its cache. On a GPU the calls would cost more than the memory."""


def logprobs_and_entropy(
    logits_NV: Tensor,
    targets_N: Tensor,
    *,
    temperature: float = 1.0,
    banned_ids: tuple[int, ...] = (),
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution, in nats over the whole vocabulary.

    logits [N, V], targets [N] -> ([N], [N]). `banned_ids` are outside the policy's support. Half-precision logits
    are computed in float32; entropy carries a gradient with `entropy_gradient` alone.
    """
    logp_NV = _sampled_from(logits_NV, temperature, banned_ids).log_softmax(-1)
    chosen = logp_NV.gather(-1, targets_N[:, None]).squeeze(-1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        rows = max(1, PROBABILITIES // logp_NV.shape[-1]) if logp_NV.device.type == "cpu" else max(1, len(logp_NV))
        entropy = torch.cat([entropy_of(logp, logp.exp()) for logp in logp_NV.split(rows)])
    return chosen, entropy


def _sampled_from(logits_NV: Tensor, temperature: float, banned_ids: tuple[int, ...]) -> Tensor:
    """[N, V] logits of the policy: at least float32, at its temperature, -inf outside its support."""
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    if banned_ids:
        logits_NV = logits_NV.index_fill(-1, torch.tensor(banned_ids, device=logits_NV.device), float("-inf"))
    return logits_NV


def entropy_of(logp_NV: Tensor, probs_NV: Tensor) -> Tensor:
    """[N] entropies in nats, to 1e-6 from float32 log-probabilities and probabilities; in their dtype.

    The rounding error of log-sum-exp, which is the same in every log-probability, is removed by the float64 sums of
    p log p and of p.
    """
    finite_NV = logp_NV.clamp_min(LEAST)
    total = probs_NV.sum(-1, dtype=torch.float64)
    return (total.log() - (probs_NV * finite_NV).sum(-1, dtype=torch.float64) / total).to(logp_NV.dtype)


def token_logprobs(
    model: Any,
    batch: Microbatch,
    *,
    temperature: float = 1.0,
    banned_ids: tuple[int, ...] = (),
    shared: SharedPrompt | None = None,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies of the N tokens under `batch.loss_mask`, in row-major order.

    The output head runs on those positions only, in chunks, so that no tensor of tokens x vocabulary is made.

    Args:
        model: A vision-language model of transformers; `loaded.model`.
        batch: From `collate`, on the model's device.
        temperature: Divides the logits.
        banned_ids: Tokens outside the policy's support, such as image placeholders; `loaded.banned_ids`.
        shared: The forward of `batch.prefix`, where prompts are shared; gradients flow into it.
        entropy_gradient: Gradients flow into the entropies too, at the cost of a few tensors of the head's size.

    Returns:
        Log-probabilities [N] in nats with gradient, entropies [N] in nats over the whole vocabulary, and the last
        hidden states [N, H] that predict the tokens.
    """
    share = share_of(model)
    if share is not None:
        return _shared_logprobs(model, batch, share, temperature, banned_ids, entropy_gradient)
    if batch.prefix is not None:
        assert shared is not None or not torch.is_grad_enabled(), "the caller must take gradients into the prompt"
        shared = shared or SharedPrompt(model, batch.prefix)
        selected, ids = shared.hidden(batch)[batch.loss_mask], batch.input_ids[batch.loss_mask]
    else:
        hidden = hidden_states(model, batch.input_ids, model_positions(batch), batch.mm_kwargs)
        targets = batch.loss_mask[:, 1:]
        selected, ids = hidden[:, :-1][targets], batch.input_ids[:, 1:][targets]
    return *_scores(model, selected, ids, temperature, banned_ids, entropy_gradient), selected


def _shared_logprobs(
    model: Any, batch: Microbatch, share: SequenceShare, temperature: float, banned_ids: tuple[int, ...], trained: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`token_logprobs` where ranks share the tokens of each row: each scores those that its places predict."""
    assert batch.prefix is None, "rows whose tokens are shared have prompts of their own"
    batch = share.padded(batch)
    hidden = hidden_states(model, batch.input_ids, model_positions(batch), batch.mm_kwargs)
    chosen, targets = (pad(t[:, 1:], (0, 1)) for t in (batch.loss_mask, batch.input_ids))
    mine = share.own(chosen, 1)
    selected, ids = hidden[mine], share.own(targets, 1)[mine]
    found = *_scores(model, selected, ids, temperature, banned_ids, trained), selected
    logprobs, entropies, states = (share.all_rows(t, chosen) for t in found)
    return logprobs, entropies, states


def _scores(
    model: Any, selected: Tensor, ids: Tensor, temperature: float, banned_ids: tuple[int, ...], entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N] of `ids` and entropies [N] that the hidden states [N, H] give."""

    def head(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return logprobs_and_entropy(
            to_logits(model, h), t, temperature=temperature, banned_ids=banned_ids, entropy_gradient=entropy_gradient
        )

    chunk = max(1, LOGITS // vocabulary_size(model))
    if len(ids) <= chunk:
        return head(selected, ids)
    pieces = zip(selected.split(chunk), ids.split(chunk), strict=True)
    pairs = [checkpoint(head, h, t, use_reentrant=False) for h, t in pieces]
    return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])


@torch.no_grad()
def mass_of(
    model: Any,
    hidden_NH: Tensor,
    chosen_N: Tensor,
    ids: tuple[int, ...],
    *,
    temperature: float = 1.0,
    banned_ids: tuple[int, ...] = (),
) -> Tensor:
    """[N] summed probability of `ids` in the chosen places, NaN elsewhere and where there are no ids.

    `hidden_NH` are the last hidden states that predict the tokens; the head runs on the chosen ones alone.
    """
    at_least_float32 = torch.promote_types(hidden_NH.dtype, torch.float32)
    mass_N = torch.full((len(hidden_NH),), torch.nan, dtype=at_least_float32, device=hidden_NH.device)
    if not ids or not chosen_N.any():
        return mass_N
    targets = torch.tensor(ids, device=hidden_NH.device)
    masses = []
    for hidden in hidden_NH[chosen_N].split(max(1, LOGITS // vocabulary_size(model))):
        logits_NV = _sampled_from(to_logits(model, hidden), temperature, banned_ids)
        masses.append(logits_NV.softmax(-1)[:, targets].sum(-1))
    mass_N[chosen_N] = torch.cat(masses)
    return mass_N


@torch.no_grad()
def kl_between(
    model: Any, hidden_NH: Tensor, other_NH: Tensor, *, temperature: float = 1.0, banned_ids: tuple[int, ...] = ()
) -> Tensor:
    """[N] KL(p || q) in nats over the whole vocabulary: p of the first hidden states, q of the others."""

    def logp(hidden: Tensor) -> Tensor:
        return _sampled_from(to_logits(model, hidden), temperature, banned_ids).log_softmax(-1).clamp_min(LEAST)

    rows = max(1, LOGITS // vocabulary_size(model))
    found = []
    for hidden, other in zip(hidden_NH.split(rows), other_NH.split(rows), strict=True):
        p_NV = logp(hidden)
        found.append((p_NV.exp() * (p_NV - logp(other))).sum(-1))
    return torch.cat(found)
