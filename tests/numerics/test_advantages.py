"""Advantages against hand-computed values and naive loops written from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seethink.rl.advantages import EPSILON, gae, group_advantages, has_variance, whiten

NAN = float("nan")


def naive_group(rewards: list[float], normalize_std: bool) -> list[float]:
    graded = [r for r in rewards if not math.isnan(r)]
    if len(set(graded)) < 2:
        return [0.0] * len(rewards)
    mean = sum(graded) / len(graded)
    std = math.sqrt(sum((r - mean) ** 2 for r in graded) / (len(graded) - 1))
    scale = std + EPSILON if normalize_std else 1.0
    return [0.0 if math.isnan(r) else (r - mean) / scale for r in rewards]


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1.0, 0.0, 0.0, 0.0], [1.5, -0.5, -0.5, -0.5]),
        ([1.0, NAN, 0.2], [0.5**0.5, 0.0, -(0.5**0.5)]),
        ([0.2, 0.2, 0.2], [0.0, 0.0, 0.0]),
        ([NAN, 1.0, NAN], [0.0, 0.0, 0.0]),
        ([NAN, NAN], [0.0, 0.0]),
    ],
)
def test_group_advantages_by_hand(rewards: list[float], expected: list[float]) -> None:
    ours = group_advantages(torch.tensor([rewards], dtype=torch.float64))[0]
    assert ours.tolist() == pytest.approx(expected, abs=3e-6)  # EPSILON is in ours, not in the hand's


@pytest.mark.parametrize("normalize_std", [True, False])
def test_group_advantages_equal_a_naive_loop(normalize_std: bool) -> None:
    rng = np.random.default_rng(0)
    rewards = rng.choice([0.0, 0.2, 0.8, 1.0, NAN], size=(200, 6))
    rewards[:40, 2:] = NAN
    ours = group_advantages(torch.from_numpy(rewards), normalize_std=normalize_std)
    naive = torch.tensor([naive_group(row, normalize_std) for row in rewards.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ours, naive, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3, 7, 32])
@pytest.mark.parametrize("reward", [0.0, 0.2, 0.8, 1.0])
def test_equal_rewards_teach_exactly_nothing(reward: float, size: int, dtype: torch.dtype) -> None:
    """0.2 * 3 / 3 is not 0.2 in floating point; a remainder must not be blown up by the division."""
    advantages = group_advantages(torch.full((1, size), reward, dtype=dtype))
    assert advantages.tolist() == [[0.0] * size]


def test_has_variance() -> None:
    rewards = torch.tensor([[1.0, 0.0, NAN], [0.2, 0.2, 0.2], [1.0, NAN, NAN], [NAN, NAN, NAN], [NAN, 1.0, 1.0]])
    assert has_variance(rewards).tolist() == [True, False, False, False, False]


def naive_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """A_t = sum over l of (gamma lam)^l delta_{t+l}, the values after the end being 0."""
    following = [*values[1:], 0.0]
    deltas = [r + gamma * after - v for r, v, after in zip(rewards, values, following, strict=True)]
    return [sum((gamma * lam) ** l * delta for l, delta in enumerate(deltas[t:])) for t in range(len(deltas))]  # noqa: E741


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.95), (1.0, 0.0), (0.5, 0.7)])
def test_gae_equals_the_sum_of_discounted_deltas(gamma: float, lam: float) -> None:
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=17), rng.normal(size=17)
    advantages, returns = gae(torch.from_numpy(rewards), torch.from_numpy(values), gamma=gamma, lam=lam)
    naive = torch.tensor(naive_gae(rewards.tolist(), values.tolist(), gamma, lam), dtype=torch.float64)
    torch.testing.assert_close(advantages, naive, rtol=0, atol=1e-10)
    torch.testing.assert_close(returns, naive + torch.from_numpy(values), rtol=0, atol=1e-10)


def test_gae_by_hand() -> None:
    """A reward of 1 at the end, gamma 1: lambda 1 gives return less value, lambda 0 the one-step delta."""
    rewards, values = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.25, 0.75])
    monte_carlo, returns = gae(rewards, values, gamma=1.0, lam=1.0)
    one_step, _ = gae(rewards, values, gamma=1.0, lam=0.0)
    assert monte_carlo.tolist() == [0.5, 0.75, 0.25]
    assert returns.tolist() == [1.0, 1.0, 1.0]
    assert one_step.tolist() == [-0.25, 0.5, 0.25]


def test_whiten() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    std = math.sqrt((4 + 1 + 0 + 9) / 3)
    assert whiten(values).tolist() == pytest.approx([v / (std + EPSILON) for v in (-2, -1, 0, 3)], abs=1e-12)
    assert whiten(torch.tensor([5.0])).tolist() == [0.0]
    assert whiten(torch.tensor([])).tolist() == []
