"""The module whose forward trainer and scorer call: micro-batches and prompts in, tensors of every loss token out.

All work on the trained weights goes through `TokenScorer.__call__`, so that one line wraps it: `fully_shard(scorer)`
or `scorer.compile()`.

Letters: N loss tokens of a micro-batch, H hidden width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn

from seethink.core.types import Microbatch, Prefix
from seethink.models.forward import checkpointed, enable_checkpointing
from seethink.models.load import LoadedModel
from seethink.models.logprobs import token_logprobs
from seethink.models.routers import NO_LOAD, routers_of
from seethink.models.shared_prompt import SharedPrompt, prompt_states


class TokenOutputs(NamedTuple):
    """What the model says of the N loss tokens of a micro-batch, in row-major order.

    A named tuple rather than a dataclass, because the hooks of a wrapper such as FSDP find tensors in tuples alone.
    """

    logprobs: Tensor
    """[N], with gradient."""
    entropies: Tensor
    """[N], with gradient where the scorer was asked for it."""
    hidden: Tensor
    """[N, H] the last hidden state that predicts each token."""
    load: Tensor = NO_LOAD
    """[L, 2, E] of a mixture of experts: tokens and summed probability of each layer's experts, over the rows' tokens
    (models/routers.py); empty for other models, and where no layer ran."""


class TokenScorer(nn.Module):
    """Log-probabilities, entropies and hidden states of a loaded model, in its compute dtype.

    Holds the loaded model itself, not a copy of its weights. `temperature` divides the logits. With
    `gradient_checkpointing`, every layer is recomputed in backward; with `entropy_gradient`, entropies can be trained.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        temperature: float = 1.0,
        gradient_checkpointing: bool = False,
        entropy_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.model: nn.Module = loaded.model
        self._loaded = loaded
        self.routers = routers_of(loaded.model)
        self._temperature, self._entropy_gradient = temperature, entropy_gradient
        self._recompute = gradient_checkpointing
        if gradient_checkpointing:
            enable_checkpointing(loaded.model)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What forwards compute in: that of the recipe, or of weights that are wider."""
        weights: torch.dtype = self.model.dtype  # type: ignore[assignment]
        return weights if self._loaded.compute_dtype == torch.float32 else self._loaded.compute_dtype

    @overload
    def forward(self, given: Microbatch, shared: SharedPrompt | None = None) -> TokenOutputs: ...
    @overload
    def forward(self, given: Prefix) -> tuple[Tensor, ...]: ...
    def forward(
        self, given: Microbatch | Prefix, shared: SharedPrompt | None = None
    ) -> TokenOutputs | tuple[Tensor, ...]:
        """A micro-batch's token outputs; of a prefix, the states that its responses continue (see `share`).

        `shared` is the forward of the micro-batch's own prefix and is needed where gradients are wanted.
        """
        recompute = self._recompute and torch.is_grad_enabled()
        with self._loaded.autocast(), checkpointed(self.model, enabled=recompute):
            if isinstance(given, Prefix):
                return prompt_states(self.model, given)
            unrecorded: AbstractContextManager[list[Tensor]] = nullcontext([])
            with unrecorded if self.routers is None else self.routers.recording() as logits:
                found = token_logprobs(
                    self.model,
                    given,
                    temperature=self._temperature,
                    banned_ids=self._loaded.banned_ids,
                    shared=shared,
                    entropy_gradient=self._entropy_gradient,
                )
        return TokenOutputs(*found, self._load(logits, given))

    def _load(self, logits: list[Tensor], batch: Microbatch) -> Tensor:
        if self.routers is None:
            return NO_LOAD
        # Behind a shared prompt, a response's last token goes through no layer; a prompt's tokens are not counted.
        counted = batch.sequence_ids >= 0
        return self.routers.load(logits, counted if batch.prefix is None else counted[:, :-1])

    def share(self, prefix: Prefix) -> SharedPrompt:
        """The prompts' forward, which any number of response micro-batches continue."""
        return SharedPrompt(self.model, prefix, self(prefix))
