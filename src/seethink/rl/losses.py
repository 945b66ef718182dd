"""Losses of the policy and the critic. Pure functions: tensors in, (loss, metrics) out.

Letter: N tokens of a micro-batch. `weights` carry the aggregation (see `token_weights`): a step's loss is the sum
over all its micro-batches, whatever the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["sequence", "token", "dr_grpo"]
Metrics = dict[str, Tensor]


def token_weights(lengths: Sequence[int], aggregation: Aggregation, max_length: int) -> list[float]:
    """The weight of each token of each response; a length of 0 is a masked response.

    `sequence`: mean over the tokens of a response, then over responses (paper eq. 6). `token`: mean over all tokens
    (DAPO). `dr_grpo`: sum over tokens / max_length, mean over responses.
    """
    responses = sum(length > 0 for length in lengths)
    tokens = sum(lengths)
    if aggregation == "token":
        return [1.0 / max(tokens, 1)] * len(lengths)
    if aggregation == "dr_grpo":
        return [1.0 / (max(responses, 1) * max_length)] * len(lengths)
    return [1.0 / (max(responses, 1) * length) if length else 0.0 for length in lengths]


def policy_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> tuple[Tensor, Metrics]:
    """Clipped surrogate (paper eq. 6): -sum w min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A).

    `clip_high > clip_low` is clip-higher. On-policy, pass `logprobs.detach()` as old: rho is 1, its gradient is not.
    """
    ratio = (logprobs_N - old_logprobs_N).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    surrogate = torch.minimum(ratio * advantages_N, clipped * advantages_N)
    with torch.no_grad():
        is_clipped = (ratio * advantages_N > clipped * advantages_N).to(weights_N.dtype)
    return -(weights_N * surrogate).sum(), {"loss/clip_fraction": is_clipped}


def kl_penalty(logprobs_N: Tensor, reference_logprobs_N: Tensor) -> Tensor:
    """Per-token KL(policy || reference) estimate, never negative: exp(d) - 1 - d, d = ref - policy (k3). [N]."""
    difference = reference_logprobs_N - logprobs_N
    return difference.expm1() - difference


def value_loss(values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, weights_N: Tensor, *, clip: float) -> Tensor:
    """Clipped value loss of PPO: 0.5 sum w max((V - R)^2, (clip(V, V_old +- clip) - R)^2)."""
    clipped = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    worst = torch.maximum((values_N - returns_N).square(), (clipped - returns_N).square())
    return 0.5 * (weights_N * worst).sum()


def sft_loss(logprobs_N: Tensor, weights_N: Tensor) -> Tensor:
    """Cross-entropy: -sum w log p. With weights 1/tokens it is the mean over the step's tokens."""
    return -(weights_N * logprobs_N).sum()


def mismatch_kl(generator_logprobs_N: Tensor, trainer_logprobs_N: Tensor) -> Tensor:
    """Per-token estimate of KL(generator || trainer) on tokens that the generator sampled (k3). [N]."""
    difference = trainer_logprobs_N - generator_logprobs_N
    return difference.expm1() - difference
