"""Reinforcement learning: rollout -> reward -> advantage -> loss -> step, over and over (paper 3.3).

One step in five files: this one -> rl/rollout.py -> rl/advantages.py -> train/policy.py -> rl/losses.py.
By default strictly on-policy: one gradient step per episode, so that the old log-probs are the new ones, detached, and
no second forward is needed. With `epochs` or `minibatches` above one they are computed before the first update.
With rollouts ahead (rl/ahead.py) they are those of the weights that are trained too, one step newer than the ones that
sampled; what lies between, and between two engines, is weighed by `losses.mismatch_weights`.
PPO is this step with the critic's advantages and value loss (train/ppo.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seethink.config import AlgorithmConfig
from seethink.core.types import Microbatch, RolloutGroup
from seethink.dist import agree
from seethink.models.scorer import TokenOutputs, TokenScorer
from seethink.rl.ahead import Ahead
from seethink.rl.batching import Batcher, count_tokens, sampled_responses
from seethink.rl.losses import kl_penalty, mismatch_kl, mismatch_weights
from seethink.rl.rollout import Episode, Rollouts, refuse_stale
from seethink.rl.surrogates import surrogate_loss
from seethink.train.entropies import EntropyProbe
from seethink.train.faults import episode_faults, episode_records, offenders
from seethink.train.image_kl import measure_image_kl
from seethink.train.memory import TokenBudget
from seethink.train.policy import LossFn, Policy, score
from seethink.train.ppo import Critic
from seethink.train.step import Record, StepResult


class Grpo:
    """The steps of GRPO, and with a `critic` of PPO. `reference` is the starting model of the KL term."""

    def __init__(
        self,
        policy: Policy,
        rollouts: Rollouts,
        budget: TokenBudget,
        probe: EntropyProbe,
        *,
        critic: Critic | None = None,
        reference: TokenScorer | None = None,
        ahead: Ahead | None = None,
        sleep: Callable[[], None] | None = None,
    ) -> None:
        """With `ahead` the next episode is sampled while one is trained on. `sleep` is called once an episode is
        sampled: the generator is not used before it is given the next weights."""
        self.policy, self._rollouts, self._budget, self._probe = policy, rollouts, budget, probe
        self._critic, self._reference, self._ahead, self._sleep = critic, reference, ahead, sleep
        self.total_steps = rollouts.algorithm.steps
        rollouts.generator.load_weights(policy.steps_done)

    def step(self, number: int) -> StepResult:
        """Sample an episode, grade it, and learn from it."""
        episode = self._collect(number)
        timed = self._rest()
        self._probe.complete(episode, self._budget.batcher)
        if self._rollouts.algorithm.token_measure == "image":
            measure_image_kl(self.policy, episode, self._budget.batcher)
        version = self.policy.steps_done
        result = self.learn(episode)
        result.metrics |= timed | self._serve()
        if self._ahead is not None:
            stale = [version - completion.policy_version for completion in episode.completions]
            result.metrics["rollout/staleness"] = sum(stale) / len(stale)
        result.metrics |= self._rollouts.rewarder.metrics()
        result.metrics |= self._rollouts.source.weights.counted(group.prompt.sample for group in episode.groups)
        return result

    def learn(self, episode: Episode) -> StepResult:
        """`update`, with micro-batches that fit into memory, unless something in the episode is not finite."""
        metrics: dict[str, float] = {}
        faults = episode_faults(episode)
        if not faults:
            metrics, faults = self._budget.run(
                lambda batcher: update(
                    self.policy, batcher, episode, self._rollouts.algorithm,
                    critic=self._critic, reference=self._reference,
                ),
                self._forget_gradients,
                longest=self._longest(episode),
            )  # fmt: skip
        tokens = self._probe.sampled(episode)
        return StepResult(metrics, tokens, faults, lambda: self._records(episode), episode)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"position": self._rollouts.source.position}
        return state if self._ahead is None else state | self._ahead.state()

    def _collect(self, number: int) -> Episode:
        """The episode of a step; with rollouts ahead, the sampling of the next one is begun."""
        version = self.policy.steps_done
        if self._ahead is None:
            episode = self._rollouts.collect(number)
            refuse_stale(episode, version)
            return episode
        first, asked_of = self._ahead.take(number) or (None, version)
        episode = self._rollouts.collect(number, first)
        refuse_stale(episode, asked_of, version)
        if number + 1 < self.total_steps:
            self._ahead.begin(number + 1)
        return episode

    def _rest(self) -> dict[str, float]:
        """Send what has sampled to sleep, where it shares this process's device."""
        if self._sleep is None:
            return {}
        started = time.perf_counter()
        self._sleep()
        return {"time/sleep_s": time.perf_counter() - started}

    def _serve(self) -> dict[str, float]:
        """Give the generator the weights of the finished step, once it needs the old ones no more."""
        started = time.perf_counter()
        waited: dict[str, float] = {}
        if self._ahead is not None:
            self._ahead.wait()
            waited["time/rollout_wait_s"] = time.perf_counter() - started
            started = time.perf_counter()
        self._rollouts.generator.load_weights(self.policy.steps_done)
        seconds = time.perf_counter() - started
        if self._ahead is not None:
            self._ahead.finish()
        return waited | ({"time/sync_s": seconds} if self._rollouts.rollout.engine != "in_process" else {})

    def _forget_gradients(self) -> None:
        self.policy.forget_gradients()
        if self._critic is not None:
            self._critic.optimizer.zero_grad(set_to_none=True)

    def _longest(self, episode: Episode) -> int:
        """Tokens of the longest sequence that no division makes shorter: where prompts are shared, a response."""
        with_prompt = not self._budget.batcher.shares_prompts
        pairs = [(group.prompt, c) for group in episode.groups for c in group.completions]
        return max(c.length + with_prompt * len(prompt.input_ids) for prompt, c in pairs)

    def _records(self, episode: Episode) -> list[Record]:
        sequences = sampled_responses(episode.groups, self._rollouts.algorithm.aggregation, episode.max_new_tokens)
        batches = self._budget.batcher.batches(sequences)
        return episode_records(episode, offenders(batches, self.policy.logprobs(batches)))


def update(
    policy: Policy,
    batcher: Batcher,
    episode: Episode,
    algorithm: AlgorithmConfig,
    *,
    critic: Critic | None = None,
    reference: TokenScorer | None = None,
) -> tuple[dict[str, float], list[str]]:
    """All gradient steps of one episode; returns (metrics, what was not finite in skipped ones)."""
    started = time.perf_counter()
    minibatches = [
        prepare(policy, batcher, episode.groups[part :: algorithm.minibatches], episode.max_new_tokens, algorithm,
                critic=critic, reference=reference)
        for part in range(algorithm.minibatches)
    ]  # fmt: skip
    loss_fn = make_loss(algorithm)
    if critic is not None:
        loss_fn = critic.with_value_loss(loss_fn)
    recorded: dict[str, list[Tensor]] = {}
    metrics: dict[str, float] = {}
    faults: list[str] = []
    for _ in range(algorithm.epochs):
        for batches in minibatches:
            for key, tensor in policy.forward_backward(batches, loss_fn).items():
                recorded.setdefault(key, []).append(tensor)
            stepped, fault = policy.optimizer_step()
            metrics |= stepped
            if critic is not None:
                metrics |= critic.step(skip=fault is not None)
            faults += [fault] if fault else []
    seconds = time.perf_counter() - started
    trained = algorithm.epochs * agree(sum(count_tokens(batches) for batches in minibatches), "sum")
    metrics |= {"time/train_s": seconds, "throughput/trained_tokens_per_s": trained / seconds}
    return metrics | _summarise(recorded, gradient_steps=algorithm.epochs * algorithm.minibatches), faults


def prepare(
    policy: Policy,
    batcher: Batcher,
    groups: list[RolloutGroup],
    max_new_tokens: int,
    algorithm: AlgorithmConfig,
    *,
    critic: Critic | None = None,
    reference: TokenScorer | None = None,
) -> list[Microbatch]:
    """This rank's micro-batches of one gradient step, with all that is computed before the first update."""
    # A KL term, an entropy bonus, a critic or the balance of experts gives every token a gradient.
    leave_idle = critic is None and reference is None and not algorithm.entropy_bonus and not policy.balances_experts
    sequences = sampled_responses(
        groups,
        algorithm.aggregation,
        max_new_tokens,
        token_share=algorithm.token_share,
        token_measure=algorithm.token_measure,
        leave_idle=leave_idle,
    )
    batches = policy.deal(batcher, sequences)
    if critic is not None:
        critic.prepare(policy, batches, [c for group in groups for c in group.completions])
    if algorithm.epochs * algorithm.minibatches > 1:
        for batch, logprobs in zip(batches, policy.logprobs(batches), strict=True):
            batch.old_logprobs = logprobs
    if reference is not None:
        with torch.no_grad():
            for batch, outputs in zip(batches, score(reference, batches), strict=True):
                batch.reference_logprobs = outputs.logprobs
    return batches


def make_loss(algorithm: AlgorithmConfig) -> LossFn:
    """The loss of one gradient step (paper eq. 6), for `Policy.forward_backward`."""

    def loss_fn(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
        mask, logprobs = batch.loss_mask, outputs.logprobs
        weights, sampled = batch.weights[mask], batch.generator_logprobs[mask]
        old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        corrected: dict[str, Tensor] = {}
        trusted = weights
        if algorithm.mismatch_correction != "off":
            trust = mismatch_weights(
                sampled, old, batch.sequence_ids[mask], algorithm.mismatch_correction, algorithm.mismatch_cap
            )
            trusted = weights * trust
            corrected["mismatch_kl/weight"] = trust
        loss, metrics = surrogate_loss(
            algorithm, logprobs, old, batch.advantages[mask], trusted, batch.sequence_ids[mask]
        )
        metrics |= {"loss/policy": loss[None], "mismatch_kl": mismatch_kl(sampled, logprobs), **corrected}
        if batch.reference_logprobs is not None:
            kl = kl_penalty(logprobs, batch.reference_logprobs)
            loss = loss + algorithm.kl_beta * (weights * kl).sum()
            metrics["loss/kl"] = kl
        if algorithm.entropy_bonus:
            loss = loss - algorithm.entropy_bonus * (weights * outputs.entropies).sum()
        return loss, metrics

    return loss_fn


def _summarise(recorded: dict[str, list[Tensor]], gradient_steps: int) -> dict[str, float]:
    """Per-token metrics -> numbers; losses are sums of micro-batch shares, averaged over gradient steps."""
    joined = {key: torch.cat(values) for key, values in recorded.items()}
    mismatch = joined.pop("mismatch_kl")
    entropy = joined.pop("entropy/token")
    metrics = {
        "mismatch_kl/mean": float(mismatch.mean()),
        "mismatch_kl/max": float(mismatch.max()),
        "entropy/trainer_mean": float(entropy.mean()),
    }
    for key in ("loss/total", "loss/policy", "loss/value"):
        if key in joined:
            metrics[key] = float(joined.pop(key).sum()) / gradient_steps
    return metrics | {key: float(value.mean()) for key, value in joined.items()}
