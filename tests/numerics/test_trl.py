"""Our formulas against TRL 1.16's, on inputs and outputs stored by make_trl_fixture.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seethink.models.logprobs import logprobs_and_entropy
from seethink.rl.advantages import EPSILON, group_advantages
from seethink.rl.losses import Aggregation, kl_penalty, policy_loss, token_weights

FIXTURE: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "golden" / "trl_losses.json").read_text(encoding="utf-8")
)
AGGREGATION: dict[str, Aggregation] = {"grpo": "sequence", "dapo": "token", "dr_grpo": "dr_grpo"}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def packed(values: list[list[float]], dtype: torch.dtype) -> torch.Tensor:
    """[B, T] with TRL's padding -> [N] of the tokens that count."""
    rows = zip(values, FIXTURE["inputs"]["lengths"], strict=True)
    return torch.cat([torch.tensor(row[:length], dtype=dtype) for row, length in rows])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", FIXTURE["losses"], ids=lambda c: f"{c['loss_type']}-kl{c['beta']}")
def test_policy_loss_equals_trl(case: dict[str, Any], dtype: torch.dtype) -> None:
    inputs = FIXTURE["inputs"]
    lengths = inputs["lengths"]
    logprobs = packed(inputs["logprobs"], dtype).requires_grad_()
    weights = token_weights(lengths, AGGREGATION[case["loss_type"]], inputs["max_length"])
    weights_N = torch.tensor(weights, dtype=dtype).repeat_interleave(torch.tensor(lengths))
    advantages_N = torch.tensor(inputs["advantages"], dtype=dtype).repeat_interleave(torch.tensor(lengths))
    loss, metrics = policy_loss(
        logprobs,
        packed(inputs["old_logprobs"], dtype),
        advantages_N,
        weights_N,
        clip_low=case["clip_low"],
        clip_high=case["clip_high"],
    )
    kl = kl_penalty(logprobs, packed(inputs["reference_logprobs"], dtype))
    total = loss + case["beta"] * (weights_N * kl).sum()
    total.backward()
    assert total.item() == pytest.approx(case["loss"], abs=TOLERANCE[dtype])
    theirs = packed(case["gradient"], dtype)
    torch.testing.assert_close(logprobs.grad, theirs, rtol=0, atol=TOLERANCE[dtype])
    assert metrics["loss/clip_fraction"].mean().item() == pytest.approx(case["clip_fraction"], abs=1e-6)


def test_group_advantages_equal_trl() -> None:
    """TRL divides by std + 1e-4, we by std + 1e-6: its numerator and std are compared.

    TRL's count / (count - 1) is float32 even for float64 rewards, hence the 1e-6.
    """
    stored = FIXTURE["advantages"]
    rows = [[float("nan") if r is None else r for r in row] for row in stored["rewards"]]
    rewards = torch.tensor(rows, dtype=torch.float64)
    std = torch.tensor(stored["std"], dtype=torch.float64)[:, None]
    theirs = torch.tensor(stored["centred"], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards, normalize_std=False), theirs, rtol=0, atol=1e-10)
    torch.testing.assert_close(group_advantages(rewards), theirs / (std + EPSILON), rtol=0, atol=1e-6)


def test_logprobs_and_entropy_equal_trl() -> None:
    stored = FIXTURE["logprobs"]
    logits = torch.tensor(stored["logits"], dtype=torch.float64)
    logprobs, entropies = logprobs_and_entropy(
        logits, torch.tensor(stored["targets"]), temperature=stored["temperature"]
    )
    assert logprobs.tolist() == pytest.approx(stored["logprobs"], abs=1e-10)
    assert entropies.tolist() == pytest.approx(stored["entropies"], abs=1e-10)
