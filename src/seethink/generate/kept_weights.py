"""A model's weights in a server's main memory, so that a trainer sends only what training changes. Imports no vLLM."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

A, B = "::lora_A", "::lora_B"
"""What follows a weight's name in those of its adapter. B comes scaled: the weight that is served is W + B A."""


class KeptWeights:
    """Every tensor as it came last, adapters apart from what they adapt."""

    def __init__(self) -> None:
        self._plain: dict[str, Tensor] = {}
        self._adapters: dict[str, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._plain or self._adapters)

    def take(self, name: str, tensor: Tensor) -> None:
        (self._adapters if name.endswith((A, B)) else self._plain)[name] = tensor

    def merged(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of all weights, in the order in which they came first.

        Raises LookupError where an adapter has no weight, or is there by half.
        """
        adapted = {name.removesuffix(A).removesuffix(B) for name in self._adapters}
        if missing := adapted - self._plain.keys():
            raise LookupError(f"adapters came for {min(missing)}, which itself did not")
        for name, tensor in self._plain.items():
            if name in adapted:
                tensor = tensor + self._adapters[name + B] @ self._adapters[name + A]
            yield name, tensor.to(dtype)
