"""Attention of responses to themselves and to the prompt they share, without one copy of the prompt per response.

Every query attends to its own response (causally) and to the whole prompt. A flash kernel computes each of the two, and
their results are merged by their log-sums of exponentials. The responses of a prompt form one long query, so that the
prompt's keys are read where they lie. Backward runs the same kernels' backward with the merged output and log-sums, as
ring attention does (Liu et al. 2023, arXiv 2310.01889): the probabilities that they recompute are then those over
prompt and response together.

Letters: P prompts, B responses, R response tokens, T prompt tokens, K key-value heads, H query heads, D head width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from seethink.models.forward import attention_configs

aten = torch.ops.aten
log = logging.getLogger(__name__)

NAME = "seethink_prefix"
"""Under this name transformers finds `attention`."""
SHARE = "sequence_share"
"""The keyword by which a decoder layer hands `attention` what ranks share of its rows (`sequence_share.py`)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive prompts with equally many responses and equally much padding: one call of a kernel."""

    prompts: slice
    rows: slice
    pad: int


@dataclass(slots=True)
class SharedKeys:
    """The prompts' keys and values [P, K, T, D] in one layer, and which rows continue them."""

    keys: Tensor
    values: Tensor
    runs: tuple[Run, ...]
    was_read: bool = False


def use_prefix_attention(model: Any) -> None:
    """Let the layers of this model that use transformers' "sdpa" use `attention`, which is the same without a prefix.

    Nothing but this model changes, and no checkpoint has the name: transformers does not save it.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    for config in attention_configs(model):
        if config._attn_implementation == "sdpa":
            config._attn_implementation = NAME


def copy_free(model: Any, dtype: torch.dtype) -> bool:
    """Whether every layer attends to all earlier tokens by `attention`, and the kernels run here."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    whole = set(kinds) == {"full_attention"} if kinds else getattr(config, "sliding_window", None) is None
    return whole and config._attn_implementation == NAME and kernels_agree(model.device, dtype)


@lru_cache
def kernels_agree(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels run on this device in this precision and give what plain attention gives, gradients too.

    They are operators below torch's public interface: where a version or a device differs, prompts are copied instead.
    """
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        generator = torch.Generator().manual_seed(0)
        shapes = (2, 3, 4, 64), (2, 2, 3, 64), (2, 2, 3, 64), (1, 2, 5, 64), (1, 2, 5, 64)
        drawn = [torch.randn(*shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]
        try:
            out = _after_prompt(*drawn, runs=(Run(slice(0, 1), slice(0, 2), 0),), scale=0.125)
            ours = [out, *torch.autograd.grad(out.float().square().sum(), drawn)]
        except (RuntimeError, TypeError, ValueError) as error:
            log.info("shared prompts are copied: attention's kernels do not run here: %s", error)
            return False
        plain = _plain(*drawn, scale=0.125)
        theirs = [plain, *torch.autograd.grad(plain.float().square().sum(), drawn)]
    allowed = 50 * torch.finfo(dtype).eps
    return all((a - b).abs().max() <= allowed * b.abs().max() for a, b in zip(ours, theirs, strict=True))


def runs_of(rows: Tensor, attention_mask: Tensor) -> tuple[Run, ...]:
    """rows [B]: the prompt of each response, ascending; attention_mask [P, T] of prompts padded on the left."""
    pads = (attention_mask == 0).sum(1).tolist()
    numbers, counts = (t.tolist() for t in rows.unique_consecutive(return_counts=True))

    def alike(place: int) -> tuple[int, int, int]:
        return counts[place], pads[numbers[place]], numbers[place] - place

    found, start = [], 0
    for (count, pad, _), places in groupby(range(len(numbers)), key=alike):
        first, *others = (numbers[place] for place in places)
        end = start + count * (1 + len(others))
        found.append(Run(slice(first, first + 1 + len(others)), slice(start, end), pad))
        start = end
    return tuple(found)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' "sdpa"; keys that carry `SharedKeys` are joined by those of the prompt.

    query [B, H, R, D], key and value [B, K, R, D] -> [B, R, H, D].
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    shared: SharedKeys | None = getattr(key, "shared", None)
    if (share := kwargs.pop(SHARE, None)) is not None:
        return share.attention(sdpa_attention_forward, module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    if shared is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if attention_mask is not None or kwargs.get("dropout") or kwargs.get("position_bias") is not None:
        raise ValueError("a shared prompt goes with plain causal attention; set optim.shared_prompt=false")
    shared.was_read = True
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    # Rotary angles may have turned queries and keys into float32, which autocast takes back for torch's own attention.
    query, key, *prompt = (t.to(value.dtype) for t in (query, key, shared.keys, shared.values))
    return _after_prompt(query.transpose(1, 2), key, value, *prompt, runs=shared.runs, scale=scale), None


def _plain(q: Tensor, k: Tensor, v: Tensor, pk: Tensor, pv: Tensor, *, scale: float) -> Tensor:
    """What `_AfterPrompt` gives for one prompt, over copies of its keys and values."""
    shared, (rows, _, length, _), seen = q.shape[2] // k.shape[1], k.shape, pk.shape[2]
    copies = (torch.cat([p.expand(rows, -1, -1, -1), own], 2) for p, own in ((pk, k), (pv, v)))
    keys, values = (t.repeat_interleave(shared, 1) for t in copies)
    mask = torch.ones(length, seen + length, dtype=torch.bool, device=q.device).tril(seen)
    return scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask, scale=scale).transpose(1, 2)


def _after_prompt(*states: Tensor, runs: tuple[Run, ...], scale: float) -> Tensor:
    """Attention of queries [B, R, H, D] to own keys and values [B, K, R, D] and the prompts' [P, K, T, D]."""
    out: Tensor = _AfterPrompt.apply(*states, runs, scale)  # type: ignore[no-untyped-call]
    return out


class _AfterPrompt(torch.autograd.Function):
    """q [B, R, H, D], k and v [B, K, R, D], the prompts' pk and pv [P, K, T, D] -> [B, R, H, D]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, pk: Tensor, pv: Tensor, runs: tuple[Run, ...], scale: float
    ) -> Tensor:
        q = q.contiguous()
        out, sums = torch.empty_like(q), []
        for queries, into in zip(_by_key_head(q, k), _by_key_head(out, k), strict=True):
            own, own_sums = _forward(queries, k, v, scale, causal=True)
            merged = torch.empty_like(own_sums)
            for run in runs:
                rows, where = run.rows, (run.prompts, slice(None), slice(run.pad, None))
                seen, seen_sums = _forward(_fold(queries, run), pk[where], pv[where], scale)
                seen_sums = seen_sums.unflatten(2, (-1, q.shape[1])).transpose(1, 2).reshape_as(own_sums[rows])
                torch.logaddexp(own_sums[rows], seen_sums, out=merged[rows])
                share = (seen_sums - merged[rows]).exp_().transpose(1, 2)[..., None].to(q.dtype)
                into[rows] = own[rows].lerp(seen.reshape_as(own[rows]), share)
            sums.append(merged)
        ctx.save_for_backward(q, k, v, pk, pv, out, *sums)
        ctx.runs, ctx.scale = runs, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, k, v, pk, pv, out, *sums = ctx.saved_tensors
        gq, *gradients = (torch.empty_like(q), *(torch.zeros_like(t) for t in (k, v, pk, pv)))
        parts = zip(*(_by_key_head(t, k) for t in (grad.contiguous(), q, out, gq)), sums, strict=True)
        for of_out, queries, made, into, merged in parts:
            own, *of_own = _backward(of_out, queries, made, merged, k, v, ctx.scale, causal=True)
            for run in ctx.runs:
                rows, where = run.rows, (run.prompts, slice(None), slice(run.pad, None))
                of_seen, asking, given = (_fold(t, run) for t in (of_out, queries, made))
                seen_sums = _fold(merged.transpose(1, 2), run).transpose(1, 2)
                seen, *of_prompt = _backward(of_seen, asking, given, seen_sums, pk[where], pv[where], ctx.scale)
                into[rows] = own[rows].add_(seen.reshape_as(own[rows]))
                for total, part in zip(gradients[2:], of_prompt, strict=True):
                    total[where] += part
            for total, part in zip(gradients[:2], of_own, strict=True):
                total += part
        return gq, *gradients, None, None


def _by_key_head(t: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    """[B, R, H, D] -> views [B, R, K, D], one query head per key head for the CPU kernel; CUDA's takes all at once."""
    views: tuple[Tensor, ...] = t.unflatten(2, (k.shape[1], -1)).unbind(3) if t.device.type == "cpu" else (t,)
    return views


def _fold(rows: Tensor, run: Run) -> Tensor:
    """[B, R, ...] -> [prompts of the run, responses of each * R, ...]; nothing is copied."""
    folded: Tensor = rows[run.rows].unflatten(0, (run.prompts.stop - run.prompts.start, -1)).flatten(1, 2)
    return folded


def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """q [B, Q, K, D], k and v [B, K, T, D] -> output [B, Q, K, D], log-sums [B, K, Q].

    On CUDA q may have a multiple of K heads; `kernels_agree` checks that branch on the device before it is used.
    """
    if q.device.type == "cpu":
        flash = aten._scaled_dot_product_flash_attention_for_cpu
        out, sums = flash(q.transpose(1, 2), k, v, 0.0, causal, attn_mask=None, scale=scale)
        return out.transpose(1, 2), sums
    lengths = None, None, q.shape[1], k.shape[2]
    out, sums, *_ = aten._flash_attention_forward(
        q, k.transpose(1, 2), v.transpose(1, 2), *lengths, 0.0, causal, False, scale=scale
    )
    return out, sums


def _backward(
    grad: Tensor, q: Tensor, out: Tensor, sums: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q [B, Q, K, D], k and v [B, K, T, D]; the rest as in `_forward`."""
    if q.device.type == "cpu":
        flash = aten._scaled_dot_product_flash_attention_for_cpu_backward
        grad, q, out = (t.transpose(1, 2) for t in (grad, q, out))
        gq, gk, gv = flash(grad, q, k, v, out, sums, 0.0, causal, attn_mask=None, scale=scale)
        return gq.transpose(1, 2), gk, gv
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device)
    k, v, sums = k.transpose(1, 2), v.transpose(1, 2), sums.contiguous()
    lengths = None, None, q.shape[1], k.shape[1]
    gq, gk, gv = aten._flash_attention_backward(
        grad, q, k, v, out, sums, *lengths, 0.0, causal, no_dropout, no_dropout[:0], scale=scale
    )
    return gq, gk.transpose(1, 2), gv.transpose(1, 2)
