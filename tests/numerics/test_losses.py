"""Losses and their gradients against naive loops over sequences, and against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from seethink.rl.losses import (
    Aggregation,
    Correction,
    kl_penalty,
    mismatch_kl,
    mismatch_weights,
    policy_loss,
    sft_loss,
    token_weights,
    value_loss,
)

LENGTHS = (5, 1, 9, 3)
MAX_LENGTH = 16
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@dataclass
class Batch:
    """Ragged responses: one tensor a sequence, and the same joined."""

    logprobs: list[Tensor]
    old: list[Tensor]
    advantages: list[float]

    def joined_logprobs(self) -> Tensor:
        return torch.cat(self.logprobs).detach().requires_grad_()

    def joined_advantages(self) -> Tensor:
        return torch.cat([torch.full_like(o, a) for o, a in zip(self.old, self.advantages, strict=True)])


def draw_batch(dtype: torch.dtype) -> Batch:
    torch.manual_seed(0)
    logprobs = [(-3 * torch.rand(n, dtype=dtype)).requires_grad_() for n in LENGTHS]
    old = [(p + 0.4 * torch.randn(len(p), dtype=dtype)).detach() for p in logprobs]
    return Batch(logprobs, old, [1.3, -0.4, -1.1, 0.2])


def joined_weights(aggregation: Aggregation, dtype: torch.dtype, lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    weights = token_weights(lengths, aggregation, MAX_LENGTH)
    return torch.tensor(weights, dtype=dtype).repeat_interleave(torch.tensor(lengths))


def naive_token(logprob: Tensor, old: Tensor, advantage: float, low: float, high: float) -> Tensor:
    ratio = torch.exp(logprob - old)
    bounded = min(max(ratio, ratio.new_tensor(1 - low)), ratio.new_tensor(1 + high))
    return min(ratio * advantage, bounded * advantage)


def per_sequence(sums: list[Tensor]) -> Tensor:
    """Eq. 6: mean over the tokens of a response, then mean over the responses."""
    return sum(s / n for s, n in zip(sums, LENGTHS, strict=True)) / len(LENGTHS)


NAIVE: dict[Aggregation, Callable[[list[Tensor]], Tensor]] = {
    "sequence": per_sequence,
    "token": lambda sums: sum(sums) / sum(LENGTHS),
    "dr_grpo": lambda sums: sum(s / MAX_LENGTH for s in sums) / len(LENGTHS),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("aggregation", NAIVE)
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, 0.28), (0.1, 0.5)])
def test_policy_loss_equals_a_naive_loop(low: float, high: float, aggregation: Aggregation, dtype: torch.dtype) -> None:
    batch = draw_batch(dtype)
    sums = [
        sum(naive_token(p, o, advantage, low, high) for p, o in zip(logprobs, old, strict=True))
        for logprobs, old, advantage in zip(batch.logprobs, batch.old, batch.advantages, strict=True)
    ]
    naive = -NAIVE[aggregation](sums)
    theirs = torch.cat(torch.autograd.grad(naive, batch.logprobs, allow_unused=True, materialize_grads=True))
    joined = batch.joined_logprobs()
    weights = joined_weights(aggregation, dtype)
    ours, _ = policy_loss(
        joined, torch.cat(batch.old), batch.joined_advantages(), weights, clip_low=low, clip_high=high
    )
    ours.backward()
    assert ours.item() == pytest.approx(naive.item(), abs=TOLERANCE[dtype])
    torch.testing.assert_close(joined.grad, theirs, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "clipped"),
    [
        (1.1, 2.0, 2.2, False),  # inside
        (1.5, 2.0, 2.6, True),  # a good token is pushed up to 1 + 0.3 only
        (0.5, 2.0, 1.0, False),  # a good token that became rarer is pulled back without limit
        (1.5, -2.0, -3.0, False),  # a bad token that became likelier is pushed down without limit
        (0.5, -2.0, -1.6, True),  # a bad token is pushed down to 1 - 0.2 only
        (0.9, -2.0, -1.8, False),  # inside
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, surrogate: float, clipped: bool) -> None:
    """clip_low 0.2, clip_high 0.3; where it clips no gradient is left, elsewhere it is -ratio * advantage."""
    logprob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    one, old = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    loss, metrics = policy_loss(logprob, old, advantage * one, one, clip_low=0.2, clip_high=0.3)
    loss.backward()
    assert loss.item() == pytest.approx(-surrogate, abs=1e-12)
    assert logprob.grad.item() == pytest.approx(0.0 if clipped else -ratio * advantage, abs=1e-12)
    assert metrics["loss/clip_fraction"].tolist() == [float(clipped)]


def test_on_policy_gradient_is_the_policy_gradient() -> None:
    """With old = policy detached the gradient is that of -sum w A log p, though the loss itself differs."""
    torch.manual_seed(3)
    logits = torch.randn(18, 7, dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(-1)[:, 2]
    batch = draw_batch(torch.float64)
    advantages, weights = batch.joined_advantages(), joined_weights("sequence", torch.float64)
    loss, _ = policy_loss(logprobs, logprobs.detach(), advantages, weights)
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(weights * advantages * logprobs).sum(), logits)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    assert loss.item() == pytest.approx(-float((weights * advantages).sum()), abs=1e-12)


@pytest.mark.parametrize("estimate", [kl_penalty, lambda policy, other: mismatch_kl(policy, other)])
def test_kl_is_k3(estimate: Callable[[Tensor, Tensor], Tensor]) -> None:
    """r - 1 - log r with r = other / policy: by hand at r = 2 and 1/2, zero and flat where both agree."""
    policy = torch.tensor([math.log(0.25), math.log(0.5), math.log(0.3)], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([math.log(0.5), math.log(0.25), math.log(0.3)], dtype=torch.float64)
    kl = estimate(policy, other)
    kl.sum().backward()
    assert kl.tolist() == pytest.approx([1 - math.log(2), -0.5 + math.log(2), 0.0], abs=1e-12)
    assert policy.grad.tolist() == pytest.approx([-1.0, 0.5, 0.0], abs=1e-12)


def test_kl_is_unbiased() -> None:
    """Its mean under the policy is KL(policy || reference) = sum p log(p / q), summed out exactly."""
    torch.manual_seed(4)
    policy, reference = torch.randn(2, 9, dtype=torch.float64).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * kl_penalty(policy, reference)).sum(), exact, rtol=0, atol=1e-12)
    torch.testing.assert_close((policy.exp() * mismatch_kl(policy, reference)).sum(), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sequence", [1 / 15, 1 / 3, 0.0, 1 / 27]),
        ("token", [1 / 15, 1 / 15, None, 1 / 15]),
        ("dr_grpo", [1 / 48, 1 / 48, None, 1 / 48]),
    ],
)
def test_token_weights_with_a_masked_response(aggregation: Aggregation, expected: list[float | None]) -> None:
    """A length of 0 is a masked response: the others share its part. It has no tokens, so None may be anything."""
    ours = token_weights((5, 1, 0, 9), aggregation, 16)
    assert [w for w, e in zip(ours, expected, strict=True) if e is not None] == pytest.approx(
        [e for e in expected if e is not None], abs=1e-15
    )


@pytest.mark.parametrize("aggregation", NAIVE)
def test_token_weights_of_nothing(aggregation: Aggregation) -> None:
    assert all(math.isfinite(w) for w in token_weights((0, 0), aggregation, 16))


def naive_value_loss(values: Tensor, old: Tensor, returns: Tensor, weights: Tensor, clip: float) -> Tensor:
    total = torch.zeros((), dtype=values.dtype)
    for v, v_old, r, w in zip(values, old, returns, weights, strict=True):
        near = v_old + max(min(v - v_old, v.new_tensor(clip)), v.new_tensor(-clip))
        total = total + 0.5 * w * max((v - r) ** 2, (near - r) ** 2)
    return total


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_value_loss_equals_a_naive_loop(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    old, returns = torch.randn(2, 18, dtype=dtype)
    values = (old + 0.4 * torch.randn(18, dtype=dtype)).requires_grad_()
    weights = joined_weights("sequence", dtype)
    naive = naive_value_loss(values, old, returns, weights, 0.2)
    (expected,) = torch.autograd.grad(naive, values)
    ours = value_loss(values, old, returns, weights, clip=0.2)
    (gradient,) = torch.autograd.grad(ours, values)
    assert ours.item() == pytest.approx(naive.item(), abs=TOLERANCE[dtype])
    torch.testing.assert_close(gradient, expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("value", "expected", "gradient"),
    [
        (0.1, 0.5 * 0.9**2, -0.9),  # inside the clip: the plain square
        (0.5, 0.5 * 0.8**2, 0.0),  # too far towards the return 1: held at 0.2, no gradient
        (-0.5, 0.5 * 1.5**2, -1.5),  # too far the wrong way: the larger error counts
    ],
)
def test_value_clipping_by_hand(value: float, expected: float, gradient: float) -> None:
    """Old value 0, return 1, clip 0.2."""
    v = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    loss = value_loss(v, zero, one, one, clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert v.grad.item() == pytest.approx(gradient, abs=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sft_loss_equals_cross_entropy(dtype: torch.dtype) -> None:
    torch.manual_seed(6)
    logits = torch.randn(18, 30, dtype=dtype, requires_grad=True)
    targets = torch.randint(30, (18,))
    theirs = torch.nn.functional.cross_entropy(logits, targets)
    (expected,) = torch.autograd.grad(theirs, logits)
    chosen = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    ours = sft_loss(chosen, joined_weights("token", dtype))
    (gradient,) = torch.autograd.grad(ours, logits)
    assert ours.item() == pytest.approx(theirs.item(), abs=TOLERANCE[dtype])
    torch.testing.assert_close(gradient, expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("off", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("token", [2.0, 0.25, 0.5, 1.0, 2.0]),  # ratios 4, 1/4 | 1/2, 1, 3, cut to 2
        ("token_mask", [0.0, 0.0, 0.5, 1.0, 0.0]),
        ("sequence", [1.0, 1.0, 1.5, 1.5, 1.5]),  # products 1 | 3/2
        ("sequence_mask", [1.0, 1.0, 1.5, 1.5, 1.5]),
    ],
)
def test_mismatch_weights_by_hand(correction: Correction, expected: list[float]) -> None:
    trainer = torch.tensor([0.8, 0.1, 0.2, 0.4, 0.9], dtype=torch.float64).log().requires_grad_()
    generator = torch.tensor([0.2, 0.4, 0.4, 0.4, 0.3], dtype=torch.float64).log()
    weights = mismatch_weights(generator, trainer, torch.tensor([7, 7, 2, 2, 2]), correction, 2.0)
    assert weights.tolist() == pytest.approx(expected, abs=1e-12)
    assert not weights.requires_grad


@pytest.mark.parametrize("correction", ["token", "sequence", "token_mask", "sequence_mask"])
def test_mismatch_weights_equal_a_naive_loop(correction: Correction) -> None:
    batch = draw_batch(torch.float64)
    expected: list[float] = []
    for new, old in zip(batch.logprobs, batch.old, strict=True):
        ratios = [math.exp(a) / math.exp(b) for a, b in zip(new.tolist(), old.tolist(), strict=True)]
        if correction.startswith("sequence"):
            ratios = [math.prod(ratios)] * len(ratios)
        if correction.endswith("mask"):
            expected += [ratio if 1 / 1.3 <= ratio <= 1.3 else 0.0 for ratio in ratios]
        else:
            expected += [min(ratio, 1.3) for ratio in ratios]
    owners = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    ours = mismatch_weights(torch.cat(batch.old), torch.cat(batch.logprobs), owners, correction, 1.3)
    assert ours.tolist() == pytest.approx(expected, abs=1e-12)
    assert 0.0 in expected or correction in ("token", "sequence")


@pytest.mark.parametrize("correction", ["token", "sequence", "token_mask", "sequence_mask"])
def test_a_token_that_the_engines_disagree_on_beyond_measure_stays_finite(correction: Correction) -> None:
    generator = torch.tensor([-5000.0, -1.0])
    ours = mismatch_weights(generator, torch.tensor([-1.0, -1.0]), torch.tensor([0, 1]), correction, 2.0)
    assert ours.tolist() == [0.0 if correction.endswith("mask") else 2.0, 1.0]


@pytest.mark.parametrize("cap", [math.inf, 3.0])
def test_truncated_importance_sampling_gives_the_gradient_of_the_trained_policy(cap: float) -> None:
    """Tokens come from q. E_q[p/q grad log p A], summed over a small vocabulary, is E_p[grad log p A] exactly; with a
    cap, tokens of a ratio above it count for less."""
    torch.manual_seed(8)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    logp, logq = logits.log_softmax(-1), torch.randn(6, dtype=torch.float64).log_softmax(-1)
    advantages = torch.randn(6, dtype=torch.float64)
    weights = mismatch_weights(logq, logp, torch.arange(6), "token", cap)
    loss, _ = policy_loss(logp, logp.detach(), advantages, logq.exp() * weights)
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    share = (logp - logq).exp().clamp_max(cap).detach() * logq.exp()
    (expected,) = torch.autograd.grad(-(share * advantages * logp).sum(), logits, retain_graph=True)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    if cap == math.inf:
        (exact,) = torch.autograd.grad(-(logp.exp().detach() * advantages * logp).sum(), logits)
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)
