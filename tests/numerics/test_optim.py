"""Learning rates, gradient clipping and parameter groups by hand."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.nano import nano_recipe
from seethink.config import OptimConfig
from seethink.models.load import LoadedModel
from seethink.models.trainable import param_groups
from seethink.train.optim import clip_and_measure, learning_rate_factor


def test_warmup_then_cosine() -> None:
    """Ten steps, two of warmup: halfway down in the middle of the other eight, and not yet 0 at the last."""
    optim = OptimConfig(schedule="cosine", warmup_ratio=0.2)
    factors = [learning_rate_factor(optim, step, 10) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5, abs=1e-12)
    assert factors[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)), abs=1e-12)
    assert learning_rate_factor(optim, 10, 10) == pytest.approx(0.0, abs=1e-12)


def test_constant() -> None:
    assert [learning_rate_factor(OptimConfig(), step, 4) for step in range(4)] == [1.0] * 4


@pytest.mark.parametrize("max_norm", [1.0, 6.5, 100.0])
def test_clipping_by_hand(max_norm: float) -> None:
    """Gradients (3, 4) and (12): parts of norm 5 and 12, together 13."""
    vision, language = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    vision.grad, language.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    groups = [{"params": [vision], "part": "vision"}, {"params": [language], "part": "language"}]
    metrics = clip_and_measure(torch.optim.SGD(groups, lr=1.0), max_norm)
    assert metrics == pytest.approx(
        {"optim/grad_norm_vision": 5.0, "optim/grad_norm_language": 12.0, "optim/grad_norm": 13.0}
    )
    scale = min(1.0, max_norm / 13)
    assert [*vision.grad.tolist(), *language.grad.tolist()] == pytest.approx([3 * scale, 4 * scale, 12 * scale])


def test_parameter_groups(nano: LoadedModel) -> None:
    """Each parameter of a trained part once, with its part's rate; matrices decay, norms and biases do not."""
    recipe = nano_recipe(
        "", 'parts.train=["connector", "language"]', "parts.lr.connector=3e-4", "optim.weight_decay=0.1"
    )
    groups = param_groups(nano.model, recipe.parts, recipe.lora, recipe.optim)
    held = [p for group in groups for p in group["params"]]
    trained = [p for name, p in nano.model.named_parameters() if "vision_tower" not in name]
    assert len(held) == len(trained)
    assert {id(p) for p in held} == {id(p) for p in trained}
    assert all(p.requires_grad == any(p is t for t in trained) for p in nano.model.parameters())
    for group in groups:
        assert group["lr"] == {"connector": 3e-4, "language": 1e-3}[group["part"]]
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] == 0.1}
