"""Grouped-query attention without copies: the query heads that share keys and values become rows of one product.

transformers repeats keys and values for every query head wherever there is a mask. Decoding with padding then copies
the whole cache at every step; here nothing is copied, and the sums are the same.

Letters: B rows, H query heads, K key-value heads, Q queries, T keys, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "seethink_grouped"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [B, H, Q, D], key and value [B, K, T, D], mask [B, 1, Q, T] -> [B, Q, H, D]."""
    rows, heads, queries, width = query.shape
    shared = heads // key.shape[1]
    causal = attention_mask is None and queries > 1
    if shared == 1 or causal or (attention_mask is not None and attention_mask.shape[1] != 1):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    mask = attention_mask
    if mask is not None and queries > 1:
        mask = mask.repeat(1, 1, shared, 1)
    folded = query.reshape(rows, key.shape[1], shared * queries, width)
    out = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(rows, heads, queries, value.shape[-1]).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(NAME, grouped_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)


@contextmanager
def grouped_queries(model: Any) -> Iterator[None]:
    """The language model's attention goes without copies; other implementations than transformers' default stay."""
    configs = {id(c): c for m in model.modules() if hasattr(m, "layer_idx") and (c := getattr(m, "config", None))}
    configs |= {id(c): c for c in (model.config.get_text_config(),)}
    changed = [c for c in configs.values() if c._attn_implementation == "sdpa"]
    for config in changed:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config in changed:
            config._attn_implementation = "sdpa"
