"""The experts of a mixture in a step: the loss that balances them, exact over micro-batches and ranks, and metrics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seethink.core.types import Microbatch
from seethink.dist.agreement import from_all
from seethink.models.routers import balance, balancing_loss
from seethink.models.scorer import TokenOutputs, TokenScorer


class Experts:
    """Of a policy: `count` and `share` come before a step's backward, `loss` within it, `metrics` after it."""

    def __init__(self, scorer: TokenScorer, coef: float) -> None:
        """`coef` is that of the loss; 0: metrics alone, and nothing for a model without experts."""
        self._scorer, self.coef = scorer, coef
        self._tokens: Tensor | None = None
        """[E] tokens of each expert in the whole step, over layers and ranks."""
        self._load: Tensor | None = None
        """[L, 2, E] of this rank's micro-batches so far."""

    @torch.no_grad()
    def count(self, microbatches: Sequence[Microbatch]) -> None:
        """A forward of this rank's micro-batches without gradient."""
        self.begin()
        for batch in microbatches:
            self._add(self._scorer(batch).load, idle=batch.idle)

    def share(self) -> None:
        """Sum what was counted over ranks; every rank must call it."""
        self._tokens = None if (load := self._whole()) is None else load[:, 0].sum(0)

    def begin(self) -> None:
        """Forget the micro-batches so far."""
        self._load = None

    def loss(self, outputs: TokenOutputs, *, idle: bool) -> Tensor | float:
        """A micro-batch's part of the step's loss; 0 without a coefficient."""
        self._add(outputs.load, idle=idle)
        if not self.coef or self._tokens is None or not len(outputs.load) or self._scorer.routers is None:
            return 0.0
        tokens = self._tokens.to(outputs.load)
        return self.coef * (not idle) * balancing_loss(outputs.load, tokens, self._scorer.routers.chosen)

    def metrics(self) -> dict[str, float]:
        """Of the step's tokens on all ranks, which must all call it; none without experts."""
        if self._scorer.routers is None or (load := self._whole()) is None:
            return {}
        return balance(load, self._scorer.routers.chosen)

    def _add(self, load: Tensor, *, idle: bool) -> None:
        if len(load) and not idle:
            own = load.detach().to("cpu", torch.float64)
            self._load = own if self._load is None else self._load + own

    def _whole(self) -> Tensor | None:
        loads = [load for load in from_all(self._load) if load is not None]
        return torch.stack(loads).sum(0) if loads else None
