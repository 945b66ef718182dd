"""Attention without repeated keys equals a naive loop over heads, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.families import save_family
from seethink.models.attention import NAME, grouped_attention, grouped_queries
from seethink.models.load import load_model

B, H, K, D = 3, 6, 2, 8


def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(q.shape[0], q.shape[2], H, D, dtype=q.dtype)
    for b in range(q.shape[0]):
        for h in range(H):
            scores = q[b, h] @ k[b, h * K // H].T / math.sqrt(D)
            weights = scores.masked_fill(~mask[b, 0], -torch.inf).softmax(-1)
            out[b, :, h] = weights @ v[b, h * K // H]
    return out


@pytest.mark.parametrize(("queries", "keys"), [(1, 7), (4, 4), (4, 9)])
def test_equals_a_loop_over_heads(queries: int, keys: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(B, H, queries, D, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(B, K, keys, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries).repeat(B, 1, 1, 1)
    mask[0, ..., 0] = False
    mask[..., -1, -1] = True
    if queries == keys:
        mask[0, 0, 0, 0] = True
    module = torch.nn.Module()
    module.num_key_value_groups = H // K
    wish = torch.randn(B, queries, H, D, dtype=torch.float64)
    found = []
    for attend in (lambda: grouped_attention(module, q, k, v, mask, scaling=D**-0.5)[0], lambda: naive(q, k, v, mask)):
        out = attend()
        found.append((out, *torch.autograd.grad((out * wish).sum(), (q, k, v))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_language_model_alone_is_switched_and_only_for_a_while(tmp_path: object) -> None:
    model = load_model(str(save_family("internvl", tmp_path / "model"))).model  # type: ignore[operator]
    layer = model.model.language_model.layers[0].self_attn
    with grouped_queries(model):
        assert layer.config._attn_implementation == NAME
        assert model.config.vision_config._attn_implementation == "sdpa"
    assert layer.config._attn_implementation == "sdpa"
    model.config.get_text_config()._attn_implementation = layer.config._attn_implementation = "eager"
    with grouped_queries(model):
        assert layer.config._attn_implementation == "eager"
