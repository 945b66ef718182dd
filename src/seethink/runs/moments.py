"""AdamW's moments in 8 bits as plain tensors: which weights have them, their bytes, and their form on the disk.

Block-wise quantization (Dettmers et al. 2022, arXiv 2110.02861, section 2), as torchao does it: a byte per number, and
a float32 scale per block of numbers. Blocks lie within a row of the weight here. So they are the same however many
ranks share the rows, and the scales are a matrix with the weight's rows, which is sharded as the weight is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seethink.config.optim import States
from seethink.models.shares import own_share

BLOCKS = (256, 128, 64)
"""Numbers with one scale: the first of these that divides a row."""
SMALLEST = 4096
"""Numbers of a weight; what is smaller saves nothing worth its rounding (bitsandbytes and torchao do the same)."""
CODES, SCALE = ".codes", ".scale"


def block_size(shape: torch.Size) -> int | None:
    """Numbers that share a scale; None where a weight of this shape has float32 moments all the same."""
    row = math.prod(shape[1:])
    if len(shape) < 2 or shape.numel() < SMALLEST:
        return None
    return next((size for size in BLOCKS if row % size == 0), None)


def moments_bytes(shape: torch.Size, states: States) -> int:
    """Both moments of a weight, of all ranks together."""
    block = block_size(shape) if states == "8bit" else None
    numbers = shape.numel()
    return 8 * numbers if block is None else 2 * (numbers + 4 * (numbers // block))


def scale_shape(shape: torch.Size) -> tuple[int, int]:
    """Of the scales of a whole weight. Raises ValueError where a weight of this shape has none."""
    block = block_size(shape)
    if block is None:
        raise ValueError(f"a weight of shape {list(shape)} has no 8-bit moments")
    return shape[0], math.prod(shape[1:]) // block


def as_share(local: Tensor, parameter: Tensor, shape: torch.Size | tuple[int, ...] | None = None) -> Tensor:
    """This rank's rows of a tensor of `shape` (the parameter's), sharded as the parameter is; where it is not, all."""
    if not hasattr(parameter, "placements"):
        return local
    from torch.distributed.tensor import DTensor

    sharded: Any = parameter
    whole = torch.Size(parameter.shape if shape is None else shape)
    stride = tuple(math.prod(whole[i + 1 :]) for i in range(len(whole)))
    mesh, placements = sharded.device_mesh, sharded.placements
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=whole, stride=stride)


def stored(name: str, value: Tensor, parameter: Tensor, states: States) -> dict[str, Tensor]:
    """An entry of an optimizer's state as plain tensors, or as plain shares of sharded ones."""
    if states == "float32" or not value.ndim:
        return {name: value}
    if states == "cpu":
        on_device = own_share(parameter.detach()).device
        is_share = hasattr(parameter, "placements")
        # A share is made where its mesh is, and may lie elsewhere afterwards.
        return {name: as_share(value.to(on_device), parameter).cpu() if is_share else value}
    if block_size(parameter.shape) is None:
        return {name: value}
    local: Any = own_share(value)
    rows, width = scale_shape(parameter.shape)
    if local.numel():
        codes, scale = local.codes, local.scale.view(-1, width)
    else:  # more ranks than rows
        codes, scale = torch.zeros_like(local, dtype=torch.uint8), torch.zeros(0, width, device=local.device)
    return {
        name + CODES: as_share(codes, parameter),
        name + SCALE: as_share(scale, parameter, (rows, width)),
    }


def empty_share(key: str, parameter: Tensor, states: States) -> Tensor:
    """Room for the entry `key` of a parameter's state, as `stored` names and shards it."""
    if key == "step":
        return torch.zeros(())
    like = parameter.detach()
    if key.endswith(CODES):
        return torch.zeros_like(like, dtype=torch.uint8)
    if key.endswith(SCALE):
        shape = scale_shape(parameter.shape)
        local = own_share(like)
        return as_share(torch.zeros(len(local), shape[1], device=local.device), parameter, shape)
    return torch.zeros_like(like).cpu() if states == "cpu" else torch.zeros_like(like)


@torch.no_grad()
def fill(state: dict[str, Tensor], entry: dict[str, Tensor]) -> None:
    """Copy what `stored` gave into a new state of the same parameter; float32 moments are quantized where due.

    Raises LookupError where an 8-bit moment is to become a float32 one.
    """
    for key, value in state.items():
        own: Any = own_share(value)
        if not own.numel():
            continue
        if key in entry:
            own.copy_(own_share(entry[key]).to(own.device))  # quantizing happens where both are
        elif hasattr(own, "codes"):
            own.codes.copy_(own_share(entry[key + CODES]))
            own.scale.copy_(own_share(entry[key + SCALE]).flatten())
        else:
            raise LookupError(key)
