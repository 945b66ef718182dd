"""PPO's critic: values, generalized advantages and the value loss. Everything else is the GRPO loop.

The critic is a small head on the policy's last hidden states. It takes no gradient into the policy, so that a poor
early critic cannot spoil it, and costs no second model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seethink.config import Recipe
from seethink.core.types import Completion, Microbatch
from seethink.models.forward import output_head
from seethink.models.load import LoadedModel
from seethink.models.scorer import TokenOutputs
from seethink.rl.advantages import gae, whiten
from seethink.rl.losses import value_loss
from seethink.train.policy import LossFn, Policy


@dataclass(slots=True)
class Values:
    """Old values and returns of a gradient step's micro-batches; [N] tensors, one each."""

    old: list[Tensor]
    returns: list[Tensor]


class Critic:
    """A value head with its own optimizer."""

    def __init__(self, recipe: Recipe, loaded: LoadedModel) -> None:
        self._recipe = recipe
        width = int(output_head(loaded.model).in_features)
        generator = torch.Generator().manual_seed(recipe.seed)
        self._head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        for weight in self._head.parameters():
            std = weight.shape[-1] ** -0.5 if weight.ndim == 2 else 0.0
            nn.init.normal_(weight, std=std, generator=generator)
        self._head.to(device=loaded.device, dtype=loaded.model.dtype)
        self._optimizer = torch.optim.AdamW(self._head.parameters(), lr=recipe.ppo.critic_lr, weight_decay=0.0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"critic": self._head, "critic_optimizer": self._optimizer}

    def values(self, hidden: Tensor) -> Tensor:
        """[N, H] -> [N]: the reward still to come, seen from before each token."""
        return self._head(hidden.detach()).squeeze(-1).float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def prepare(self, policy: Policy, batches: list[Microbatch], completions: list[Completion]) -> Values:
        """Replace the group advantages in `batches` by whitened GAE ones; returns old values and returns.

        Masked completions have no weight: they get advantage 0 and are left out of the whitening.
        """
        values = Values([], [])
        estimated = []
        for batch, outputs in zip(batches, policy.outputs(batches), strict=True):
            old = self.values(outputs.hidden)
            advantages, returns = torch.zeros_like(old), torch.zeros_like(old)
            owners = batch.sequence_ids[batch.loss_mask]
            for sequence in owners.unique().tolist():
                place = owners == sequence
                advantages[place], returns[place] = self._estimate(completions[sequence], old[place])
            values.old.append(old)
            values.returns.append(returns)
            estimated.append(advantages[batch.weights[batch.loss_mask] > 0])
        whitened = whiten(torch.cat(estimated)).split([len(a) for a in estimated])
        for batch, advantages in zip(batches, whitened, strict=True):
            batch.advantages.zero_()[batch.weights > 0] = advantages
        return values

    def _estimate(self, completion: Completion, values_T: Tensor) -> tuple[Tensor, Tensor]:
        """The reward comes at the last token; a masked completion (NaN) has none and, by its weight 0, no say."""
        rewards_T = torch.zeros_like(values_T)
        if completion.reward == completion.reward:
            rewards_T[-1] = completion.reward
        return gae(rewards_T, values_T, gamma=self._recipe.ppo.gamma, lam=self._recipe.ppo.gae_lambda)

    def with_value_loss(self, policy_loss_fn: LossFn, batches: list[Microbatch], values: Values) -> LossFn:
        number = {id(batch): i for i, batch in enumerate(batches)}
        ppo = self._recipe.ppo

        def loss_fn(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
            loss, metrics = policy_loss_fn(outputs, batch)
            i, weights = number[id(batch)], batch.weights[batch.loss_mask]
            critic = value_loss(
                self.values(outputs.hidden), values.old[i], values.returns[i], weights, clip=ppo.value_clip
            )
            metrics["loss/value"] = critic[None]
            return loss + ppo.value_coef * critic, metrics

        return loss_fn

    def step(self, *, skip: bool = False) -> dict[str, float]:
        """Clip, step, clear; with `skip`, or a gradient that is not finite, nothing moves."""
        norm = nn.utils.clip_grad_norm_(self._head.parameters(), self._recipe.optim.max_grad_norm)
        if not skip and norm.isfinite():
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {"optim/grad_norm_critic": float(norm)}
