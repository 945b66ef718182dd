"""The policy under training: forward, backward and step. The only place that calls `backward`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from seethink.config import Recipe
from seethink.core.types import Microbatch
from seethink.models.forward import checkpointed, enable_checkpointing
from seethink.models.load import LoadedModel
from seethink.models.logprobs import token_logprobs
from seethink.models.lora import add_adapters
from seethink.models.scorer import TokenOutputs
from seethink.models.shared_prompt import SharedPrompt
from seethink.models.small_cpu.closed_form import use_closed_forms
from seethink.models.trainable import PartsProof, param_groups
from seethink.models.vision_cache import keep_features
from seethink.train.optim import clip_and_measure, learning_rate_factor, what_is_not_finite

LossFn = Callable[[TokenOutputs, Microbatch], tuple[Tensor, dict[str, Tensor]]]
"""(outputs, batch) -> (this micro-batch's share of the step's loss, per-token metrics [N])."""


class Policy:
    """A model, its optimizer and its schedule. Knows nothing of SFT, GRPO or PPO: the loss is an argument."""

    def __init__(self, loaded: LoadedModel, recipe: Recipe, total_steps: int) -> None:
        self.loaded = loaded
        self._recipe = recipe
        self._total_steps = total_steps
        if recipe.lora.parts:
            add_adapters(loaded.model, recipe.lora, recipe.seed)
        use_closed_forms(loaded.model)
        if recipe.optim.gradient_checkpointing:
            enable_checkpointing(loaded.model)
        groups = param_groups(loaded.model, recipe.parts, recipe.lora, recipe.optim)
        keep_features(loaded.model, recipe.parts)
        adam = recipe.optim
        self.optimizer = torch.optim.AdamW(groups, lr=adam.lr, betas=adam.betas, fused=True)
        self.proof = PartsProof(loaded.model, recipe.parts, self.optimizer)
        self.steps_done = 0
        self.faults: list[str] = []
        """What was not finite in the updates that were skipped; whoever reports them clears it."""
        self._loss = torch.zeros(())
        self.saw_images = False
        """Whether any batch so far had an image: without one, vision and connector have no gradient."""

    @property
    def model(self) -> Any:
        return self.loaded.model

    @contextmanager
    def _forward(self) -> Iterator[None]:
        recompute = self._recipe.optim.gradient_checkpointing and torch.is_grad_enabled()
        with self.loaded.autocast(), checkpointed(self.model, enabled=recompute):
            yield

    def _outputs(self, batch: Microbatch, shared: SharedPrompt | None) -> TokenOutputs:
        sampling = self._recipe.rollout.temperature if self._recipe.stage != "sft" else 1.0
        with self._forward():
            found = token_logprobs(
                self.model, batch, temperature=sampling, banned_ids=self.loaded.banned_ids, shared=shared
            )
        return TokenOutputs(*found)

    def _by_prompt(self, microbatches: Sequence[Microbatch]) -> Iterator[tuple[SharedPrompt | None, list[Microbatch]]]:
        """Micro-batches in a row whose prompts are shared, with those prompts' forward."""
        for _, members in groupby(microbatches, key=lambda batch: id(batch.prefix)):
            batches = list(members)
            prefix = batches[0].prefix
            if prefix is None:
                yield None, batches
            else:
                with self._forward():
                    shared = SharedPrompt(self.model, prefix)
                yield shared, batches

    @torch.no_grad()
    def outputs(self, microbatches: Sequence[Microbatch]) -> list[TokenOutputs]:
        """What the model says of each micro-batch, without gradient."""
        return [self._outputs(b, shared) for shared, batches in self._by_prompt(microbatches) for b in batches]

    def score(self, microbatches: Sequence[Microbatch]) -> list[Tensor]:
        """Log-probs [N] of each micro-batch without gradient (old log-probs, reference, validation)."""
        return [outputs.logprobs for outputs in self.outputs(microbatches)]

    def forward_backward(self, microbatches: Sequence[Microbatch], loss_fn: LossFn) -> dict[str, Tensor]:
        """Accumulate the gradient of the step's loss; returns per-token metrics joined over micro-batches."""
        gathered: dict[str, list[Tensor]] = {}
        for shared, batches in self._by_prompt(microbatches):
            for batch in batches:
                self.saw_images |= bool(batch.mm_kwargs or (batch.prefix and batch.prefix.mm_kwargs))
                outputs = self._outputs(batch, shared)
                loss, metrics = loss_fn(outputs, batch)
                loss.backward()
                metrics |= {"loss/total": loss.detach()[None], "entropy/token": outputs.entropies}
                for key, value in metrics.items():
                    gathered.setdefault(key, []).append(value.detach())
            if shared is not None:
                shared.backward()
        joined = {key: torch.cat(values) for key, values in gathered.items()}
        self._loss = joined["loss/total"].sum()
        return joined

    def optimizer_step(self) -> dict[str, float]:
        """Clip, step, clear; returns gradient norms and learning rates. Where the loss or the gradient is not finite
        nothing moves, and "optim/skipped" says so."""
        factor = learning_rate_factor(self._recipe.optim, self.steps_done, self._total_steps)
        metrics = clip_and_measure(self.optimizer, self._recipe.optim.max_grad_norm)
        if fault := what_is_not_finite(self._loss, metrics):
            self.optimizer.zero_grad(set_to_none=True)
            self.faults.append(fault)
            return metrics | {"optim/skipped": 1.0}
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
            metrics[f"optim/lr_{group['part']}"] = group["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return metrics
