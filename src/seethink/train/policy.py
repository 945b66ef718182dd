"""The policy under training: forward, backward and step. The only place where a training step calls `backward`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seethink.config import ClusterConfig, LoraConfig, OptimConfig, PartsConfig
from seethink.core.errors import UserError
from seethink.core.types import Microbatch
from seethink.dist.agreement import agree, all_or_none, joined_rows
from seethink.dist.dealing import own_sequences
from seethink.dist.gradients import sum_gradients
from seethink.dist.padding import with_idle_batches
from seethink.dist.sequence import sequence_share
from seethink.dist.world import is_main, world_size
from seethink.models.load import LoadedModel
from seethink.models.lora import add_adapters
from seethink.models.quantized import quantized_layers
from seethink.models.routers import require_routers
from seethink.models.scorer import TokenOutputs, TokenScorer
from seethink.models.sequence_share import share_sequences
from seethink.models.small_cpu.closed_form import use_closed_forms
from seethink.models.trainable import PartsProof, param_groups
from seethink.models.vision_cache import keep_features
from seethink.rl.batching import Batcher, by_prefix
from seethink.rl.packing import PackedSequence
from seethink.train.experts import Experts
from seethink.train.optim import clip_and_measure, learning_rate_factor, make_optimizer, set_rate, what_is_not_finite

if TYPE_CHECKING:
    from seethink.dist.sharding import Shards

LossFn = Callable[[TokenOutputs, Microbatch], tuple[Tensor, dict[str, Tensor]]]
"""(outputs, batch) -> (this micro-batch's share of the step's loss, per-token metrics [N])."""
PHRASES = ("out of memory", "can't allocate memory", "not enough memory", "memoryerror")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller micro-batches may help."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in PHRASES)


class Policy:
    """A model, its optimizer and its schedule. Knows nothing of SFT, GRPO or PPO: the loss is an argument."""

    def __init__(
        self,
        loaded: LoadedModel,
        optim: OptimConfig,
        *,
        total_steps: int,
        parts: PartsConfig | None = None,
        lora: LoraConfig | None = None,
        cluster: ClusterConfig | None = None,
        temperature: float = 1.0,
        entropy_gradient: bool = False,
        seed: int = 0,
    ) -> None:
        """`total_steps` are the optimizer steps of the schedule; `temperature` is that of the trained log-probs.
        With `entropy_gradient` a loss may train the entropies too.

        On several ranks the weights are sharded as `cluster` says; without it every rank has all of them.
        """
        self.loaded, self.temperature = loaded, temperature
        self._optim, self._total_steps = optim, total_steps
        parts, lora = parts or PartsConfig(), lora or LoraConfig()
        if lora.parts:
            add_adapters(loaded.model, lora, seed)
        use_closed_forms(loaded.model)
        self.scorer = TokenScorer(
            loaded,
            temperature=temperature,
            gradient_checkpointing=optim.gradient_checkpointing,
            entropy_gradient=entropy_gradient,
        )
        require_routers(loaded.model, self.scorer.routers, optim.router_aux_coef)
        self._together = sequence_share(1 if cluster is None else cluster.sequence_parallel)
        if self._together is not None:
            share_sequences(loaded.model, self._together)
        groups = param_groups(loaded.model, parts, lora, optim)
        self.shards = _shards(self.scorer, cluster)
        if self.shards is not None:
            groups = param_groups(loaded.model, parts, lora, optim)  # of each rank's shares
        keep_features(loaded.model, parts)
        self.optimizer = make_optimizer(groups, optim)
        over_ranks = None if self.shards is None else lambda number: agree(number, "sum")
        self.proof = PartsProof(loaded.model, parts, self.optimizer, over_ranks=over_ranks)
        self.steps_done = 0
        """Optimizer steps so far: the version of the weights."""
        self.weights_moved = False
        """Whether an optimizer has stepped since the run's last finished step; the loop clears it."""
        self.saw_images = False
        """Whether any batch so far had an image: without one, vision and connector have no gradient."""
        self._loss = torch.zeros(())
        self._experts = Experts(self.scorer, optim.router_aux_coef)

    @property
    def model(self) -> Any:
        return self.loaded.model

    def whole_weights(self) -> AbstractContextManager[None]:
        """Where weights are sharded, they are whole inside; every rank must enter it."""
        return nullcontext() if self.shards is None else self.shards.gathered()

    def scoring(self) -> AbstractContextManager[None]:
        """Around forwards without gradient, and what the output head makes of them."""
        return nullcontext() if self.shards is None else self.shards.scoring()

    def state_dict(self) -> dict[str, Tensor]:
        """The model's whole weights; where they are sharded, in main memory of rank 0, and every rank must call it."""
        return self.model.state_dict() if self.shards is None else self.shards.state()

    def take(self, read: Callable[[], dict[str, Tensor]]) -> None:
        """Take the whole weights that `read` gives; where they are sharded, rank 0 alone reads them.

        Names that are not in them keep what they have.
        """
        if self.shards is None:
            self.model.load_state_dict(read(), strict=False)
        else:
            self.shards.load(all_or_none(lambda: read() if is_main() else {}, lambda error: True))

    @torch.no_grad()
    def outputs(self, microbatches: Sequence[Microbatch]) -> list[TokenOutputs]:
        """What the model says of each micro-batch, without gradient."""
        with self.scoring():
            return all_or_none(lambda: score(self.scorer, microbatches), self._recoverable)

    def logprobs(self, microbatches: Sequence[Microbatch]) -> list[Tensor]:
        """Log-probs [N] of each micro-batch, without gradient."""
        return [outputs.logprobs for outputs in self.outputs(microbatches)]

    @property
    def balances_experts(self) -> bool:
        """Whether every token of a step has a gradient, through its routers."""
        return self._experts.coef > 0

    def forward_backward(self, microbatches: Sequence[Microbatch], loss_fn: LossFn) -> dict[str, Tensor]:
        """Accumulate the gradient of the step's loss; returns per-token metrics joined over micro-batches and ranks.

        A rank may have no micro-batch. Where one runs out of memory, all raise.
        """
        if self.balances_experts:
            with self.scoring():
                all_or_none(lambda: self._experts.count(microbatches), self._recoverable)
            self._experts.share()
        with nullcontext() if self.shards is None else self.shards.accumulating():
            own = all_or_none(lambda: self._accumulate(microbatches, loss_fn), self._recoverable)
        self._loss = own["loss/total"].sum() if own else torch.zeros(())
        self.saw_images = agree(self.saw_images, "any")
        # Ranks that share their sequences have the same rows.
        return joined_rows(own if self._together is None or self._together.rank == 0 else {})

    def _accumulate(self, microbatches: Sequence[Microbatch], loss_fn: LossFn) -> dict[str, Tensor]:
        gathered: dict[str, list[Tensor]] = {}
        self._experts.begin()
        for prefix, batches in by_prefix(microbatches):
            shared = None if prefix is None else self.scorer.share(prefix)
            for batch in batches:
                self.saw_images |= bool(batch.mm_kwargs or (prefix and prefix.mm_kwargs))
                outputs = self.scorer(batch, shared)
                loss, metrics = loss_fn(outputs, batch)
                loss = loss + self._experts.loss(outputs, idle=batch.idle)
                if loss.requires_grad:  # text alone reaches neither connector nor vision encoder
                    loss.backward()
                if batch.idle:
                    continue
                metrics |= {"loss/total": loss.detach()[None], "entropy/token": outputs.entropies.detach()}
                for key, value in metrics.items():
                    gathered.setdefault(key, []).append(value.detach())
            if shared is not None:
                shared.backward()
        return {key: torch.cat(values) for key, values in gathered.items()}

    def deal(self, batcher: Batcher, sequences: list[PackedSequence]) -> list[Microbatch]:
        """This rank's micro-batches of the sequences of a step, which every rank has."""
        batches = batcher.batches(own_sequences(sequences, 1 if self._together is None else self._together.ranks))
        if self.shards is not None and self.shards.zero == "zero3":
            batches = with_idle_batches(batches, sequences, batcher)
        return batches

    def _recoverable(self, error: BaseException) -> bool:
        """Whether all ranks can begin the step again. Under ZeRO-3 the others wait for a layer that never comes, and so
        they do where ranks share a sequence."""
        alone = self._together is None and (self.shards is None or self.shards.zero == "zero2")
        return is_out_of_memory(error) and alone

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def optimizer_step(self) -> tuple[dict[str, float], str | None]:
        """Sum over ranks, clip, step, clear; returns (gradient norms and learning rates, what was not finite).

        Where the loss or the gradient is not finite on any rank, nothing moves on any.
        """
        factor = learning_rate_factor(self._optim, self.steps_done, self._total_steps)
        if self.shards is None:
            sum_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        metrics = clip_and_measure(self.optimizer, self._optim.max_grad_norm) | self._experts.metrics()
        fault = what_is_not_finite(self._loss, metrics)
        if agree(fault is not None, "any"):
            self.optimizer.zero_grad(set_to_none=True)
            return metrics, fault or "loss or gradient of another rank"
        for group in self.optimizer.param_groups:
            rate = group["base_lr"] * factor
            set_rate(group, rate)
            metrics[f"optim/lr_{group['part']}"] = rate
        self.weights_moved = True
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return metrics, None


def _shards(scorer: TokenScorer, cluster: ClusterConfig | None) -> Shards | None:
    if cluster is None or cluster.shard == "none" or world_size() == 1:
        return None
    if quantized_layers(scorer.model):
        raise UserError(
            f"lora.base in few bits does not go with cluster.shard={cluster.shard!r} on {world_size()} processes, "
            "which divides weights in full; set shard='none'"
        )
    # FSDP takes seconds to import, which one process need not pay.
    from seethink.dist.sharding import shard

    return shard(scorer, cluster.shard, replicas=cluster.replicas, compute_dtype=scorer.compute_dtype)


def score(scorer: TokenScorer, microbatches: Sequence[Microbatch]) -> list[TokenOutputs]:
    """What a model says of each micro-batch: the policy's own, or a frozen reference's."""
    found: list[TokenOutputs] = []
    for prefix, batches in by_prefix(microbatches):
        shared = None if prefix is None else scorer.share(prefix)
        found += [scorer(batch, shared) for batch in batches]
    return found
