"""Frozen linear layers in 4 or 8 bits, beneath low-rank adapters (QLoRA: Dettmers et al. 2023, arXiv 2305.14314).

bitsandbytes rounds and restores the numbers: NF4 for 4 bits (section 3, "4-bit NormalFloat"), its 8-bit map for 8,
each with the largest magnitude of every block of 64 numbers, which is itself kept in 8 bits ("Double Quantization"). A
layer restores its weight in float32 for each product and forgets it, forward and backward (equation 5), so that it
computes what a plain layer with the restored weight does. bitsandbytes' own layers differ in that: the one of 8 bits
rounds its inputs too, and the one of 4 packs its codes anew for some processors while it evaluates.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seethink.core.errors import UserError

BITS = {"4bit": 4, "8bit": 8}
BLOCK = 64
"""Numbers of a weight that share a scale."""
SCALES = 256
"""Scales that share a scale of their own."""


class QuantizedLinear(nn.Linear):
    """A linear layer with a frozen weight in few bits. `weight` are its codes, bytes in one row.

    Shapes: N = out_features * in_features numbers, in ceil(N / BLOCK) blocks.
    """

    scale_codes: Tensor
    """[blocks]: a byte for each block's scale."""
    scale_largest: Tensor
    """[ceil(blocks / SCALES)]: what the largest of so many of them stands for."""
    scale_offset: Tensor
    """The mean scale, which was taken off before they were rounded."""

    def __init__(self, linear: nn.Linear, bits: int) -> None:
        """Takes the place of `linear`, whose bias it keeps. On the meta device nothing is rounded.

        Raises UserError where bitsandbytes is not installed.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bits = linear.in_features, linear.out_features, bits
        self.bias = linear.bias
        weight = linear.weight.detach()
        codes, scale_codes, largest, offset = _empty(weight, bits) if weight.is_meta else _rounded(weight, bits)
        self.weight = nn.Parameter(codes, requires_grad=False)
        # They follow from the checkpoint that the run began with, and no checkpoint of the run holds them.
        self.register_buffer("scale_codes", scale_codes, persistent=False)
        self.register_buffer("scale_largest", largest, persistent=False)
        self.register_buffer("scale_offset", offset, persistent=False)

    @property
    def numbers(self) -> int:
        """How many numbers the weight has."""
        return self.in_features * self.out_features

    @property
    def held_bytes(self) -> int:
        """What the weight takes, its scales included."""
        return sum(t.nbytes for t in (self.weight, self.scale_codes, self.scale_largest, self.scale_offset))

    def restored(self) -> Tensor:
        """The weight [out_features, in_features] in float32."""
        library = _library()
        scales = library.dequantize_blockwise(self.scale_codes, absmax=self.scale_largest, blocksize=SCALES)
        scales = scales + self.scale_offset
        shape = torch.Size((self.out_features, self.in_features))
        if self.bits == 8:
            numbers: Tensor = library.dequantize_blockwise(self.weight, absmax=scales, blocksize=BLOCK)
            return numbers.view(shape)
        # In one row where rows are odd: for those bitsandbytes has no kernel on a CPU.
        given = shape if self.in_features % 2 == 0 else torch.Size((self.numbers,))
        state = library.QuantState(scales, shape=given, dtype=torch.float32, blocksize=BLOCK, quant_type="nf4")
        numbers = library.dequantize_4bit(self.weight, state)
        return numbers.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """x W^T. Backward restores W again: to keep it would take what the few bits save."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return functional.linear(x, layer.restored().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return (gradient @ ctx.layer.restored().to(gradient.dtype)).to(ctx.dtype), None


def quantize_layers(model: nn.Module, names: Iterable[str], bits: int) -> None:
    """Put a QuantizedLinear in the place of each linear layer of these names. Raises UserError."""
    for name in names:
        owner, _, last = name.rpartition(".")
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(model.get_submodule(owner), last, QuantizedLinear(linear, bits))


def require_bitsandbytes() -> None:
    """Raises UserError where bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("lora.base needs the bitsandbytes library: pip install 'seethink[qlora]'")


def _library() -> Any:
    """bitsandbytes' functions, which have no types. Raises UserError where it is not installed."""
    require_bitsandbytes()
    return importlib.import_module("bitsandbytes.functional")


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLinear]:
    """The layers in few bits, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}


def layer_of_codes(model: nn.Module, name: str) -> QuantizedLinear | None:
    """The layer whose codes a parameter is; None for any other parameter."""
    owner, _, last = name.rpartition(".")
    layer = model.get_submodule(owner)
    return layer if last == "weight" and isinstance(layer, QuantizedLinear) else None


def count_numbers(model: nn.Module, named: dict[str, nn.Parameter]) -> int:
    """How many numbers parameters stand for, codes of several to a byte among them."""
    layers = {name: layer_of_codes(model, name) for name in named}
    return sum(layer.numbers if (layer := layers[name]) is not None else p.numel() for name, p in named.items())


def count_bytes(model: nn.Module, named: dict[str, nn.Parameter]) -> int:
    """What parameters take: 4 bytes a number, or codes and scales."""
    layers = {name: layer_of_codes(model, name) for name in named}
    return sum(layer.held_bytes if (layer := layers[name]) is not None else 4 * p.numel() for name, p in named.items())


def largest_restored(model: nn.Module) -> int:
    """Bytes of the largest weight that a forward or backward restores; 0 where none is in few bits."""
    return max((4 * layer.numbers for layer in quantized_layers(model).values()), default=0)


def _rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(codes, codes of the blocks' scales, scales of these, their offset)"""
    library = _library()
    numbers = weight.float().contiguous()
    if bits == 4:
        codes, state = library.quantize_4bit(numbers, blocksize=BLOCK, compress_statistics=False, quant_type="nf4")
    else:
        codes, state = library.quantize_blockwise(numbers, blocksize=BLOCK)
    offset = state.absmax.mean()
    scale_codes, own = library.quantize_blockwise(state.absmax - offset, blocksize=SCALES)
    return codes.flatten(), scale_codes, own.absmax, offset


def _empty(weight: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_rounded`, of shapes alone."""
    numbers = weight.numel()
    blocks = -(-numbers // BLOCK)
    codes = weight.new_empty(-(-numbers * bits // 8), dtype=torch.uint8)
    scales = weight.new_empty(blocks, dtype=torch.uint8)
    return codes, scales, weight.new_empty(-(-blocks // SCALES), dtype=torch.float32), weight.new_empty(())
