"""The policy loss that a recipe names: `losses.policy_loss`, or one that is compared with it. Pure functions.

All have the gradient of -sum w A log p where the policy is the one that sampled: they differ from each other only in
gradient steps after the first of an episode (`algorithm.epochs` or `algorithm.minibatches` above one).

Letter: N tokens of a micro-batch. `rho` is the ratio exp(logprob - old log-prob) of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seethink.config import AlgorithmConfig
from seethink.rl.losses import Metrics, policy_loss


def surrogate_loss(
    algorithm: AlgorithmConfig,
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    owners_N: Tensor,
) -> tuple[Tensor, Metrics]:
    """The policy loss that `algorithm.loss` names; arguments as of `gspo_loss`."""
    tokens = (logprobs_N, old_logprobs_N, advantages_N, weights_N)
    low, high = algorithm.clip_low, algorithm.clip_high
    match algorithm.loss:
        case "gspo":
            return gspo_loss(*tokens, owners_N, clip_low=low, clip_high=high)
        case "cispo":
            return cispo_loss(*tokens, clip_low=low, clip_high=high)
        case "sapo":
            return sapo_loss(*tokens, temperatures=algorithm.sapo_temperatures)
    return policy_loss(*tokens, clip_low=low, clip_high=high)


def gspo_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    owners_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Metrics]:
    """GSPO: as `policy_loss`, but the ratio is the response's, s = exp(mean over its tokens of log rho).

    Each token has the value s and the gradient of its own log-prob (the paper's GSPO-token), so that advantages may
    differ between tokens; where they are the response's, and weights are those of `aggregation="sequence"`, loss and
    gradient are GSPO's. Its paper clips at 3e-4 and 4e-4, as s moves far less than rho. Source: arXiv 2507.18071,
    equations 5, 7 and 14.

    Args:
        logprobs_N: [N] Log-probabilities of the sampled tokens, in nats, with gradient.
        old_logprobs_N: [N] The same before the first update of the step.
        advantages_N: [N] Advantage of each token.
        weights_N: [N] From `token_weights`.
        owners_N: [N] Which response a token belongs to; a response must be whole.
        clip_low: s is clipped to at least 1 - clip_low.
        clip_high: s is clipped to at most 1 + clip_high.

    Returns:
        As of `policy_loss`.
    """
    with torch.no_grad():
        _, place_N, lengths = owners_N.unique(return_inverse=True, return_counts=True)
        log_ratios = logprobs_N - old_logprobs_N
        sums = torch.zeros(len(lengths), dtype=log_ratios.dtype, device=log_ratios.device)
        means_N = (sums.index_add(0, place_N, log_ratios) / lengths)[place_N]
        # The log-prob that makes the token's ratio s: its gradient is then the ratio's.
        shifted_N = logprobs_N - means_N
    return policy_loss(logprobs_N, shifted_N, advantages_N, weights_N, clip_low=clip_low, clip_high=clip_high)


def cispo_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Metrics]:
    """CISPO: -sum w sg(clip(rho, 1 - clip_low, 1 + clip_high)) A log p: a clipped token keeps its gradient.

    Its authors leave rho without a lower bound, which `clip_low` close to 1 comes to. Source: MiniMax-M1, arXiv
    2506.13585, equations 4 and 5. Arguments and returns as of `policy_loss`; `loss/clip_fraction` is 1 where rho was
    cut.
    """
    with torch.no_grad():
        ratio = (logprobs_N - old_logprobs_N).exp()
        clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
        is_clipped = (clipped != ratio).to(weights_N.dtype)
    return -(weights_N * clipped * advantages_N * logprobs_N).sum(), {"loss/clip_fraction": is_clipped}


def sapo_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    temperatures: tuple[float, float],
) -> tuple[Tensor, Metrics]:
    """SAPO: -sum w (4 / tau) sigmoid(tau (rho - 1)) A: a gate that closes smoothly where rho leaves 1, in no clip.

    `temperatures` are tau of tokens with an advantage above 0, and of the others; its paper has 1.0 and 1.05. Source:
    arXiv 2511.20347, equations 5 and 6. Arguments and returns as of `policy_loss`, without `loss/clip_fraction`.
    """
    ratio = (logprobs_N - old_logprobs_N).exp()
    positive, negative = temperatures
    tau = torch.full_like(ratio, negative).masked_fill(advantages_N > 0, positive)
    return -(weights_N * (4 / tau) * torch.sigmoid(tau * (ratio - 1)) * advantages_N).sum(), {}
