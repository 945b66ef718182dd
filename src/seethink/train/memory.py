"""Out of memory in a micro-batch: the step is done again with micro-batches of half the tokens.

The loss of a step is a sum over its tokens, so that the gradient is the same however they are divided. What was
accumulated before the failure is thrown away; nothing has changed before the optimizer steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from seethink.config import Recipe
from seethink.core.console import console
from seethink.core.errors import UserError

T = TypeVar("T")
SMALLEST = 16
"""Tokens; a micro-batch below it would not be smaller for being halved."""
PHRASES = ("out of memory", "can't allocate memory", "not enough memory")


class OutOfMemory(UserError):  # noqa: N818
    """No division helps; the message has the shape and a hint."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in PHRASES)


class TokenBudget:
    """The recipe with the largest `optim.micro_tokens` that has fitted so far."""

    def __init__(self, recipe: Recipe, tokens: int | None = None) -> None:
        self._recipe = recipe
        self.tokens = min(tokens or recipe.optim.micro_tokens, recipe.optim.micro_tokens)

    @property
    def state(self) -> int | None:
        """The tokens, where it is not the recipe's own number."""
        return self.tokens if self.tokens < self._recipe.optim.micro_tokens else None

    @property
    def recipe(self) -> Recipe:
        """The run's own recipe, unless something did not fit."""
        if self.tokens >= self._recipe.optim.micro_tokens:
            return self._recipe
        shorter = min(self._recipe.optim.pack_length, self.tokens)
        optim = self._recipe.optim.model_copy(update={"micro_tokens": self.tokens, "pack_length": shorter})
        # A row is never divided: rows must be as short as a micro-batch.
        return self._recipe.model_copy(update={"optim": optim})

    def run(self, work: Callable[[Recipe], T], reset: Callable[[], None], *, longest: int) -> T:
        """`work` with the recipe, again with half the tokens where it runs out of memory.

        `reset` throws away gradients, and raises where weights have moved already. `longest` is the longest sequence
        of the step, for the message.
        """
        while True:
            try:
                return work(self.recipe)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = " ".join(str(error).split())[:200]
            # Outside of `except`: the traceback there holds the tensors that did not fit.
            reset()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._halve(said, longest)

    def _halve(self, said: str, longest: int) -> None:
        before = self.tokens
        # Below twice the longest sequence every sequence is in a micro-batch of its own already.
        if before <= max(SMALLEST, longest):
            raise OutOfMemory(
                f"out of memory with micro-batches of one sequence (up to [1, {longest:,}] tokens, optim.micro_tokens "
                f"down to {before:,}): {said}. Set optim.gradient_checkpointing=true, shorten "
                "data.max_prompt_tokens or rollout.max_new_tokens (sft.max_length in SFT), train fewer parts, or use "
                "lora.parts"
            )
        self.tokens = max(SMALLEST, before // 2)
        console.print(
            f"out of memory with micro-batches of {before:,} tokens ({said}): the step is done again with "
            f"{self.tokens:,}; set optim.micro_tokens={self.tokens} to begin with that",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
