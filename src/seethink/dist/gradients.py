"""Gradients of replicated weights: every rank ends with the sum over ranks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from seethink.dist.world import is_distributed

BUCKET = 2**25
"""Numbers reduced in one call: large enough to keep a link busy, small beside the model."""


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over ranks.

    Losses are sums whose weights count the tokens of the whole step, so that the sum is the step's gradient. A
    parameter that has no gradient on any rank keeps none; one that has it on some ranks counts as zeros on the others.
    """
    if not is_distributed():
        return
    trained = [p for p in parameters if p.requires_grad]
    reached = torch.tensor([p.grad is not None for p in trained], dtype=torch.uint8)
    dist.all_reduce(reached, dist.ReduceOp.MAX)
    members = [p for p, flag in zip(trained, reached.tolist(), strict=True) if flag]
    for parameter in members:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([p.grad for p in members if p.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _buckets(gradients: list[Tensor]) -> Iterable[list[Tensor]]:
    """Runs of gradients of one dtype, of about BUCKET numbers."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or size >= BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket
