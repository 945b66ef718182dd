"""Drawing one token: the distribution it is drawn from, and what is reported of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from seethink.generate.in_process.sampling import completion_uniforms, sample_tokens
from seethink.generate.protocol import Sampling
from seethink.models.logprobs import logprobs_and_entropy

LOGITS = torch.tensor([2.0, 0.5, float("-inf"), 1.5, -1.0, 0.5])
DRAWS = 20_000


def draw(logits: torch.Tensor, count: int, sampling: Sampling) -> torch.Tensor:
    uniforms = torch.from_numpy(np.random.default_rng(0).random(count))
    return sample_tokens(logits.expand(count, -1), uniforms, sampling)[0]


def nucleus(probs: list[float], top_p: float) -> set[int]:
    """Most likely first, until together they reach top_p."""
    kept: set[int] = set()
    for token in sorted(range(len(probs)), key=lambda i: -probs[i]):
        if sum(probs[i] for i in kept) >= top_p:
            break
        kept.add(token)
    return kept


def p_value(drawn: torch.Tensor, probs: torch.Tensor) -> float:
    """Chi-square of the drawn frequencies against the probabilities."""
    counts = np.bincount(drawn.numpy(), minlength=len(probs))
    support = probs.numpy() > 0
    assert counts[~support].sum() == 0
    return float(stats.chisquare(counts[support], probs.numpy()[support] * len(drawn)).pvalue)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_frequencies_match_the_probabilities(temperature: float) -> None:
    probs = (LOGITS.double() / temperature).softmax(-1)
    assert p_value(draw(LOGITS, DRAWS, Sampling(1, temperature)), probs) > 0.01


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.8, 0.95, 1.0])
def test_top_p_keeps_the_nucleus_only(top_p: float) -> None:
    probs = LOGITS.double().softmax(-1)
    kept = sorted(nucleus(probs.tolist(), top_p) - {2})
    inside = torch.zeros_like(probs)
    inside[kept] = probs[kept] / probs[kept].sum()
    drawn = draw(LOGITS, DRAWS, Sampling(1, top_p=top_p))
    assert sorted(drawn.unique().tolist()) == kept
    assert len(kept) == 1 or p_value(drawn, inside) > 0.01


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99])
def test_top_p_equals_a_naive_nucleus_on_random_rows(top_p: float) -> None:
    """Every token that uniforms spread over [0, 1) can reach, row by row."""
    torch.manual_seed(0)
    uniforms = torch.linspace(0, 1 - 1e-9, 4000, dtype=torch.float64)
    for logits in 2 * torch.randn(30, 12):
        drawn, *_ = sample_tokens(logits.expand(4000, -1), uniforms, Sampling(1, top_p=top_p))
        reached = set(drawn.tolist())
        expected = nucleus(logits.double().softmax(-1).tolist(), top_p)
        rare = {i for i in expected if logits.softmax(-1)[i] < 1e-3}
        assert expected - rare <= reached <= expected


def test_reported_logprobs_are_those_before_top_p() -> None:
    torch.manual_seed(1)
    logits = torch.randn(50, 30)
    sampling = Sampling(1, temperature=0.7, top_p=0.5)
    ids, logps, entropies, _ = sample_tokens(logits, torch.rand(50, dtype=torch.float64), sampling)
    expected = logprobs_and_entropy(logits, ids, temperature=0.7)
    torch.testing.assert_close((logps, entropies), expected, rtol=0, atol=1e-6)


def test_greedy_takes_the_largest_and_reports_temperature_one() -> None:
    torch.manual_seed(2)
    logits = torch.randn(50, 30)
    ids, logps, entropies, _ = sample_tokens(logits, torch.rand(50, dtype=torch.float64), Sampling(1, temperature=0.0))
    assert ids.tolist() == logits.argmax(-1).tolist()
    torch.testing.assert_close((logps, entropies), logprobs_and_entropy(logits, ids), rtol=0, atol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_never_draw_the_impossible(uniform: float) -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 1.0, float("-inf")]])
    ids, logps, *_ = sample_tokens(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(1))
    assert ids.item() in (1, 3)
    assert torch.isfinite(logps).all()


def test_uniforms_depend_on_seed_prompt_and_sample_alone() -> None:
    one = completion_uniforms((3, 5), 2, 1, 50)
    assert (one == completion_uniforms((3, 5), 2, 1, 80)[:50]).all(), "a longer limit goes on with the same draws"
    others = [((3, 6), 2, 1), ((4, 5), 2, 1), ((3, 5), 1, 2), ((3, 5), 2, 0)]
    assert all((one != completion_uniforms(*other, 50)).all() for other in others)
    assert 0 <= one.min() <= one.max() < 1
