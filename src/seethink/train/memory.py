"""Out of memory in a micro-batch: the step is done again with micro-batches of half the tokens.

The loss of a step is a sum over its tokens, so that the gradient is the same however they are divided. What was
accumulated before the failure is thrown away; nothing has changed before the optimizer steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.dist import agree
from seethink.rl.batching import Batcher
from seethink.train.policy import Policy, is_out_of_memory

T = TypeVar("T")
SMALLEST = 16
"""Tokens; a micro-batch below it would not be smaller for being halved."""


class OutOfMemory(UserError):  # noqa: N818
    """No division helps; the message has the shape and a hint."""


class TokenBudget:
    """The largest `optim.micro_tokens` that has fitted so far, as the batcher of a run."""

    def __init__(self, batcher: Batcher, policy: Policy, tokens: int | None = None) -> None:
        """`tokens` is what an earlier start of the run has come down to."""
        self._whole, self._policy = batcher, policy
        self.tokens = min(tokens or batcher.micro_tokens, batcher.micro_tokens)

    @property
    def batcher(self) -> Batcher:
        return self._whole if self.tokens >= self._whole.micro_tokens else self._whole.with_tokens(self.tokens)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: the tokens, where they are fewer than the recipe's."""
        return {"micro_tokens": self.tokens if self.tokens < self._whole.micro_tokens else None}

    def run(self, work: Callable[[Batcher], T], forget: Callable[[], None], *, longest: int) -> T:
        """`work` with the batcher, again with half the tokens where any rank runs out of memory.

        `forget` throws accumulated gradients away. `longest` is the step's longest sequence, for the message. Raises
        OutOfMemory where halving cannot help, or where weights have moved already.
        """
        while True:
            said: str | None = None
            try:
                result = work(self.batcher)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = " ".join(str(error).split())[:200]
            # Outside of `except`: the traceback there holds the tensors that did not fit.
            if not agree(said is not None, "any"):
                return result
            if self._policy.weights_moved:
                raise OutOfMemory(
                    "out of memory after the first update of a step, so that it cannot be done again: lower "
                    f"optim.micro_tokens below {self.tokens:,} and resume (--allow optim.micro_tokens)"
                )
            forget()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._halve("on another rank" if said is None else said or "MemoryError", longest)

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
        say(
            f"out of memory with micro-batches of {before:,} tokens ({said}): the step is done again with "
            f"{self.tokens:,}; set optim.micro_tokens={self.tokens} to begin with that",
            "yellow",
        )
