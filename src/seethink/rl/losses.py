"""Losses of the policy and the critic. Pure functions: tensors in, (loss, metrics) out.

Letter: N tokens of a micro-batch. `weights` carry the aggregation (see `token_weights`): a step's loss is the sum
over all its micro-batches, whatever the split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["sequence", "token", "dr_grpo"]
Correction = Literal["off", "token", "sequence", "token_mask", "sequence_mask"]
Metrics = dict[str, Tensor]


def token_weights(lengths: Sequence[int], aggregation: Aggregation, max_length: int) -> list[float]:
    """The weight of each token of each response, which makes the loss of a step a plain sum.

    Args:
        lengths: [R] Tokens of each response; 0 is a masked response.
        aggregation: `sequence` is the mean over the tokens of a response, then over responses (paper eq. 6); `token`
            the mean over all tokens (DAPO); `dr_grpo` the sum over tokens / `max_length`, then the mean over responses.
        max_length: Tokens of the longest response that could have been sampled; only `dr_grpo` uses it.

    Returns:
        [R] The weight of one token of each response; 0 for a masked one under `sequence`.
    """
    responses = sum(length > 0 for length in lengths)
    tokens = sum(lengths)
    if aggregation == "token":
        return [1.0 / max(tokens, 1)] * len(lengths)
    if aggregation == "dr_grpo":
        return [1.0 / (max(responses, 1) * max_length)] * len(lengths)
    if aggregation != "sequence":
        raise ValueError(f"aggregation must be sequence, token or dr_grpo, not {aggregation!r}")
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
    """Clipped surrogate loss: -sum w min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) (paper eq. 6).

    Args:
        logprobs_N: [N] Log-probabilities, in nats, of the sampled tokens under the policy, with gradient.
        old_logprobs_N: [N] The same under the policy that sampled them; rho = exp(logprobs - old). On-policy, pass
            `logprobs_N.detach()`: rho is 1, but its gradient is not 0.
        advantages_N: [N] Advantage of each token's response.
        weights_N: [N] From `token_weights`; over all micro-batches of a step the losses add up.
        clip_low: rho is clipped to at least 1 - clip_low.
        clip_high: rho is clipped to at most 1 + clip_high; more than clip_low is clip-higher (DAPO).

    Returns:
        The loss, a scalar with gradient, and [N] `loss/clip_fraction`: 1 where clipping took the gradient, else 0.
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


def mismatch_weights(
    generator_logprobs_N: Tensor, trainer_logprobs_N: Tensor, owners_N: Tensor, correction: Correction, cap: float
) -> Tensor:
    """Importance weights of tokens that another engine sampled, whose probabilities differ from the trainer's a little.

    The ratio is trainer / generator, of each token or of the whole response (the product over its tokens). Truncated
    importance sampling cuts it to `cap`: the bias is small, the variance bounded. A mask leaves a token, or a whole
    response, out where its ratio is above `cap` or below 1 / cap.

    Args:
        generator_logprobs_N: [N] Of the sampled tokens, in nats, as the engine that sampled them gave them.
        trainer_logprobs_N: [N] The same from the trainer before its first update of the step.
        owners_N: [N] Which response a token belongs to; a response must be whole.
        correction: `token`, `sequence`, `token_mask` or `sequence_mask`; `off` gives ones.
        cap: Above 1.

    Returns:
        [N] Weights without gradient.
    """
    log_ratios = (trainer_logprobs_N - generator_logprobs_N).detach()
    if correction == "off":
        return torch.ones_like(log_ratios)
    if correction.startswith("sequence"):
        _, place = owners_N.unique(return_inverse=True)
        sums = torch.zeros_like(log_ratios).index_add(0, place, log_ratios)
        log_ratios = sums[place]
    # Far beyond the cap, before the exponential could overflow.
    ratios = log_ratios.clamp_max(math.log(cap) + 1).exp()
    if correction.endswith("mask"):
        return torch.where((ratios > cap) | (ratios < 1 / cap), 0.0, ratios)
    return ratios.clamp_max(cap)
