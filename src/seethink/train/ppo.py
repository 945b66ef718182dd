"""PPO's critic: values, generalized advantages and the value loss. Everything else is the GRPO step.

The critic is a small head on the policy's last hidden states. It takes no gradient into the policy, so that a poor
early critic cannot spoil it, and costs no second model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seethink.config import PpoConfig
from seethink.core.types import Completion, Microbatch
from seethink.dist.agreement import from_all
from seethink.dist.gradients import sum_gradients
from seethink.dist.world import rank
from seethink.models.forward import output_head
from seethink.models.load import LoadedModel
from seethink.models.scorer import TokenOutputs
from seethink.rl.advantages import gae, whiten
from seethink.rl.batching import tokens_by_index
from seethink.rl.losses import value_loss
from seethink.train.policy import LossFn, Policy


class Critic:
    """A value head with its own optimizer."""

    def __init__(self, loaded: LoadedModel, ppo: PpoConfig, *, max_grad_norm: float = 1.0, seed: int = 0) -> None:
        self._ppo, self._max_grad_norm = ppo, max_grad_norm
        width = int(output_head(loaded.model).in_features)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        for weight in self.head.parameters():
            std = weight.shape[-1] ** -0.5 if weight.ndim == 2 else 0.0
            nn.init.normal_(weight, std=std, generator=generator)
        self.head.to(device=loaded.device, dtype=loaded.model.dtype)
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=ppo.critic_lr, weight_decay=0.0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"critic": self.head, "critic_optimizer": self.optimizer}

    def values(self, hidden: Tensor) -> Tensor:
        """[N, H] -> [N]: the reward still to come, seen from before each token."""
        values: Tensor = self.head(hidden.detach())
        return values.squeeze(-1).float()

    @torch.no_grad()
    def prepare(self, policy: Policy, batches: list[Microbatch], completions: list[Completion]) -> None:
        """Write old values and returns into `batches`, and whitened GAE advantages in place of the groups' ones.

        Masked completions have no weight: they get advantage 0 and are left out of the whitening.
        """
        estimated = []
        for batch, outputs in zip(batches, policy.outputs(batches), strict=True):
            old = self.values(outputs.hidden)
            advantages, returns = torch.zeros_like(old), torch.zeros_like(old)
            for sequence, place in tokens_by_index(batch):
                advantages[place], returns[place] = self._estimate(completions[sequence], old[place])
            batch.old_values, batch.returns = old, returns
            estimated.append(advantages[batch.weights[batch.loss_mask] > 0])
        own = torch.cat(estimated) if estimated else torch.empty(0)
        shares = from_all(own.cpu())
        whitened = whiten(torch.cat(shares)).split([len(share) for share in shares])[rank()].to(own.device)
        for batch, advantages in zip(batches, whitened.split([len(a) for a in estimated]), strict=True):
            batch.advantages.zero_()[batch.weights > 0] = advantages

    def _estimate(self, completion: Completion, values_T: Tensor) -> tuple[Tensor, Tensor]:
        """The reward comes at the last token; a masked completion (NaN) has none and, by its weight 0, no say."""
        rewards_T = torch.zeros_like(values_T)
        if completion.reward == completion.reward:
            rewards_T[-1] = completion.reward
        return gae(rewards_T, values_T, gamma=self._ppo.gamma, lam=self._ppo.gae_lambda)

    def with_value_loss(self, policy_loss_fn: LossFn) -> LossFn:
        """The policy's loss plus the critic's, for micro-batches that `prepare` has seen."""

        def loss_fn(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
            assert batch.old_values is not None
            assert batch.returns is not None
            loss, metrics = policy_loss_fn(outputs, batch)
            weights = batch.weights[batch.loss_mask]
            critic = value_loss(
                self.values(outputs.hidden), batch.old_values, batch.returns, weights, clip=self._ppo.value_clip
            )
            metrics["loss/value"] = critic[None]
            return loss + self._ppo.value_coef * critic, metrics

        return loss_fn

    def step(self, *, skip: bool = False) -> dict[str, float]:
        """Clip, step, clear; with `skip`, or a gradient that is not finite, nothing moves."""
        sum_gradients(self.head.parameters())
        norm = nn.utils.clip_grad_norm_(self.head.parameters(), self._max_grad_norm)
        if not skip and norm.isfinite():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"optim/grad_norm_critic": float(norm)}
