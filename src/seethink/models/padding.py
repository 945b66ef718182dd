"""Prompts of uneven length and images of uneven shape -> tensors that one forward takes.

Letters: P prompts, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from seethink.core.types import Prefix


class HasPrompt(Protocol):
    """What `left_pad` needs: a Prompt, or the prompt of a packed sequence."""

    @property
    def input_ids(self) -> list[int]: ...
    @property
    def mm_kwargs(self) -> dict[str, Tensor]: ...
    @property
    def rope_ids(self) -> Tensor | None: ...


def left_pad(prompts: Sequence[HasPrompt], pad_id: int) -> Prefix:
    """Prompts of uneven length that all end in the last column."""
    width = max(len(p.input_ids) for p in prompts)
    pads = [width - len(p.input_ids) for p in prompts]
    ids = torch.tensor([[pad_id] * pad + p.input_ids for pad, p in zip(pads, prompts, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
    ropes = [p.rope_ids for p in prompts]
    if any(rope is None for rope in ropes):
        positions = (mask.cumsum(1) - 1).clamp_min(0)
    else:
        padded = [torch.nn.functional.pad(r, (width - r.shape[1], 0)) for r in ropes if r is not None]
        positions = torch.stack(padded, dim=1)
    return Prefix(ids, mask, positions, join_images([p.mm_kwargs for p in prompts]))


def next_positions(prefix: Prefix) -> Tensor:
    """[P] the responses' first position: one more than that of the prompt's last token, a text's, whose axes of M-RoPE
    are alike. Seconds of a video may reach beyond it."""
    last = prefix.position_ids[..., -1]
    return (last if last.ndim == 1 else last[0]) + 1


def join_images(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Image tensors of all sequences, one after another; text-only sequences have none.

    Other axes are padded with zeros to the largest: families with such axes (tiles per image, tokens of an
    instruction) say in another tensor how much is real, or drop zeros.
    """
    keys = {key: None for part in parts for key in part}
    joined = {key: [part[key] for part in parts if key in part] for key in keys}
    if "target_sizes" in keys:  # MiniCPM-V lays the patches of all pictures side by side.
        return {k: torch.cat(ts, dim=-1 if k == "pixel_values" else 0) for k, ts in joined.items()}
    return {key: _join(tensors) for key, tensors in joined.items()}


def _join(tensors: list[Tensor]) -> Tensor:
    widest = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
    if all(list(t.shape[1:]) == widest for t in tensors):
        return torch.cat(tensors)
    return torch.cat([_pad(t, widest) for t in tensors])


def _pad(tensor: Tensor, widest: list[int]) -> Tensor:
    """The tensor with zeros after it on every axis but the first."""
    missing = [(0, want - size) for size, want in zip(tensor.shape[1:], widest, strict=True)]
    return torch.nn.functional.pad(tensor, [n for pair in reversed(missing) for n in pair])
