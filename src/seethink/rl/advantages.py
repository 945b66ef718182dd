"""Advantages from rewards: GRPO's group normalisation and PPO's GAE. Pure functions.

Letters: P prompts, G completions per prompt, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added to the standard deviation, as peers do; a group without variance has advantage 0 either way."""


def group_advantages(rewards_PG: Tensor, *, normalize_std: bool = True) -> Tensor:
    """Advantages within each group: A_ij = (r_ij - mean_j r_ij) / std_j r_ij (paper eq. 7).

    Every completion of a group without variance has advantage 0: exactly 0, whatever rounding left of the mean.

    Args:
        rewards_PG: [P, G] Rewards of the G completions of each prompt. NaN marks a completion whose grade is an error:
            it is left out of mean and standard deviation, and its advantage is 0.
        normalize_std: Divide by the (unbiased) standard deviation; False only centres the rewards (Dr.GRPO).

    Returns:
        [P, G] Advantages, without unit, in the dtype of the rewards.
    """
    graded = ~rewards_PG.isnan()
    count = graded.sum(-1, keepdim=True)
    rewards = rewards_PG.nan_to_num(0.0)
    mean = rewards.sum(-1, keepdim=True) / count.clamp_min(1)
    centred = (rewards - mean) * graded
    if normalize_std:
        variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp_min(1)
        centred = centred / (variance.sqrt() + EPSILON)
    return torch.where(has_variance(rewards_PG)[..., None] & graded, centred, torch.zeros_like(centred))


def has_variance(rewards_PG: Tensor) -> Tensor:
    """[P] bool: whether a group's graded rewards differ, so that it teaches anything."""
    high = rewards_PG.nan_to_num(float("-inf")).amax(-1)
    low = torch.where(rewards_PG.isnan(), float("inf"), rewards_PG).amin(-1)
    return high > low


def gae(rewards_T: Tensor, values_T: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation over one response that ends at T. ([T], [T]) -> (advantages, returns).

    delta_t = r_t + gamma V_{t+1} - V_t with V_T = 0; A_t = delta_t + gamma lam A_{t+1}; returns = A + V.
    """
    advantages = torch.zeros_like(rewards_T)
    following = torch.zeros((), dtype=rewards_T.dtype)
    next_value = torch.zeros((), dtype=rewards_T.dtype)
    for t in range(len(rewards_T) - 1, -1, -1):
        delta = rewards_T[t] + gamma * next_value - values_T[t]
        following = delta + gamma * lam * following
        advantages[t] = following
        next_value = values_T[t]
    return advantages, advantages + values_T


def whiten(values_N: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over a batch of tokens (PPO's advantage normalisation)."""
    if values_N.numel() < 2:
        return values_N - values_N.mean()
    return (values_N - values_N.mean()) / (values_N.std() + EPSILON)
