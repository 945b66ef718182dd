"""Reinforcement learning: rollout -> reward -> advantage -> loss -> step, over and over (paper 3.3).

One step in five files: this one -> rl/rollout.py -> rl/advantages.py -> train/policy.py -> rl/losses.py.
By default strictly on-policy: one gradient step an episode, so the old log-probs are the new ones, detached, and no
second forward is needed. With `epochs` or `minibatches` above one they are computed before the first update.
PPO is this loop with the critic's advantages and value loss (train/ppo.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seethink.config import Recipe
from seethink.core.console import progress_bar
from seethink.core.types import Completion, Microbatch
from seethink.data.lengths import load_fitting
from seethink.data.order import refuse_changed_data
from seethink.data.quarantine import FILE, Quarantine
from seethink.generate.make import make_generator
from seethink.models import shared_prompt
from seethink.models.load import LoadedModel, load_recipe_model
from seethink.models.prefix_attention import copy_free
from seethink.models.scorer import TokenOutputs
from seethink.rewards.golds import read_gold
from seethink.rewards.rewarder import Rewarder
from seethink.rl.losses import kl_penalty, mismatch_kl, policy_loss, token_weights
from seethink.rl.packing import PackedSequence, pack
from seethink.rl.prompt_groups import pack_groups
from seethink.rl.rollout import Episode, PromptSource, collect_episode
from seethink.runs.folder import is_allowed
from seethink.train.hooks.bad_steps import Record, episode_faults, episode_records, offenders
from seethink.train.hooks.blindness import as_episode, hold_out, watch
from seethink.train.hooks.entropy import EntropyLog
from seethink.train.hooks.rollouts import EpisodeRecorder
from seethink.train.policy import LossFn, Policy
from seethink.train.ppo import Critic
from seethink.train.run import Run, prepare_folder


def train_rl(recipe: Recipe, *, resume: bool = False, allow: Sequence[str] = ()) -> Path:
    """Run GRPO or PPO; returns the last checkpoint."""
    checkpoint = prepare_folder(recipe, resume=resume, allow=allow)
    loaded = load_recipe_model(recipe)
    reference = _load_reference(recipe)
    data = recipe.data
    folder, chat = Path(recipe.out), loaded.chat
    quarantine = Quarantine(folder / FILE)
    samples = load_fitting(
        data.train, "train", data.train_size, recipe.seed, chat, data, quarantine, golds=read_gold, graded=True
    )
    refuse_changed_data(folder, samples, resuming=checkpoint is not None and not is_allowed("data", allow))
    samples, held_out = hold_out(recipe, samples, chat, quarantine)
    source = PromptSource(samples, loaded.chat, recipe.seed)
    critic = Critic(recipe, loaded) if recipe.stage == "ppo" else None
    generator = make_generator(loaded, max_rows=recipe.rollout.max_rows)
    algorithm = recipe.algorithm
    gradient_steps = algorithm.steps * algorithm.epochs * algorithm.minibatches
    extra = critic.state() if critic else {}
    with (
        Rewarder(recipe.reward, run_folder=Path(recipe.out)) as rewarder,
        Run(recipe, loaded, algorithm.steps, checkpoint, extra, gradient_steps=gradient_steps) as run,
        progress_bar(recipe.name, run.total_steps, run.step) as advance,
    ):
        source.position = run.state.get("position", 0)
        entropy = EntropyLog(recipe, loaded, run.state.get("entropy_threshold"))
        recorder = EpisodeRecorder(run.folder, recipe, entropy)
        guard = watch(run, held_out, generator, lambda pairs: microbatches(recipe, *as_episode(pairs), loaded))
        while run.step < run.total_steps:
            episode = collect_episode(recipe, source, generator, rewarder, run.step, entropy.watched_ids)
            metrics = train_on(run, episode, reference, critic)
            generator.policy_version = run.policy.steps_done
            metrics |= recorder.metrics(episode) | rewarder.metrics()
            recorder.store(episode, run.step + 1)
            run.log(metrics | guard.check(run.step + 1), entropy.record)
            run.save_if_due({"position": source.position, **entropy.state})
            guard.stop_if_blind()
            advance(1, f"reward {metrics['reward/mean']:.3f}  accuracy {metrics['reward/accuracy']:.3f}")
        last = run.folder / "checkpoints" / f"step_{run.step:06d}"
        run.finish({}, last)
    return last


def train_on(run: Run, episode: Episode, reference: torch.nn.Module | None, critic: Critic | None) -> dict[str, float]:
    """`update`, with micro-batches that fit, unless something in the episode is not finite."""
    policy = run.policy
    # Where prompts are shared it is the responses that can be divided further.
    with_prompt = not run.recipe.optim.shared_prompt
    pairs = [(group.prompt, c) for group in episode.groups for c in group.completions]
    longest = max(len(c.token_ids) + with_prompt * len(prompt.input_ids) for prompt, c in pairs)
    faults, metrics = episode_faults(episode), {}
    if not faults:
        metrics = run.fit(lambda recipe: update(policy, recipe, episode, reference, critic), longest=longest)
        faults, policy.faults = policy.faults, []
    return metrics | run.bad_steps.settle(run.step + 1, faults, lambda: bad_records(run, episode))


def bad_records(run: Run, episode: Episode) -> list[Record]:
    """What a skipped step was made of, with a word on every completion that is to blame."""
    completions = [c for group in episode.groups for c in group.completions]
    batches = microbatches(run.recipe, episode, completions, list(range(len(completions))), run.loaded)
    return episode_records(episode, offenders(batches, run.policy.score(batches)))


def update(
    policy: Policy, recipe: Recipe, episode: Episode, reference: torch.nn.Module | None, critic: Critic | None
) -> dict[str, float]:
    """All gradient steps of one episode."""
    started = time.perf_counter()
    algorithm = recipe.algorithm
    completions = [c for group in episode.groups for c in group.completions]
    groups = [i for i, group in enumerate(episode.groups) for _ in group.completions]
    recorded: dict[str, list[Tensor]] = {}
    metrics: dict[str, float] = {}
    on_policy = algorithm.epochs == algorithm.minibatches == 1
    # A KL term or a critic gives every token a gradient.
    leave_idle = critic is None and reference is None
    minibatches = [
        [i for i, group in enumerate(groups) if group % algorithm.minibatches == part]
        for part in range(algorithm.minibatches)
    ]
    prepared = []
    for members in minibatches:
        batches = microbatches(recipe, episode, completions, members, policy.loaded, leave_idle=leave_idle)
        values = critic.prepare(policy, batches, completions) if critic else None
        old = None if on_policy else policy.score(batches)
        kl = _score_with(policy, reference, batches) if reference is not None else None
        prepared.append((batches, old, kl, values))
    for _ in range(algorithm.epochs):
        for batches, old, kl, values in prepared:
            loss_fn = make_loss(recipe, batches, old, kl)
            if critic is not None and values is not None:
                loss_fn = critic.with_value_loss(loss_fn, batches, values)
            for key, tensor in policy.forward_backward(batches, loss_fn).items():
                recorded.setdefault(key, []).append(tensor)
            stepped = policy.optimizer_step()
            if critic is not None:
                stepped |= critic.step(skip="optim/skipped" in stepped)
            metrics |= stepped
    seconds = time.perf_counter() - started
    trained = sum(_tokens(batches) for batches, *_ in prepared)
    metrics |= {
        "time/train_s": seconds,
        "throughput/trained_tokens_per_s": trained * algorithm.epochs / seconds,
    }
    return metrics | _summarise(recorded, gradient_steps=algorithm.epochs * algorithm.minibatches)


def microbatches(
    recipe: Recipe,
    episode: Episode,
    completions: list[Completion],
    members: list[int],
    loaded: LoadedModel,
    *,
    leave_idle: bool = False,
) -> list[Microbatch]:
    """The completions of one gradient step. Masked ones (grade error) have weight 0.

    `leave_idle` leaves out what gives no gradient; the other weights count it all the same.
    """
    groups = [number for number, group in enumerate(episode.groups) for _ in group.completions]
    prompts = [episode.groups[number].prompt for number in groups]
    lengths = [len(completions[i].token_ids) if completions[i].reward == completions[i].reward else 0 for i in members]
    weights = token_weights(lengths, recipe.algorithm.aggregation, episode.max_new_tokens)
    sequences = [
        PackedSequence(
            prompts[i].input_ids,
            completions[i].token_ids,
            prompts[i].mm_kwargs,
            weight=weight if length else 0.0,
            advantages=[completions[i].advantage] * len(completions[i].token_ids),
            generator_logprobs=completions[i].generator_logprobs,
            index=i,
            rope_ids=prompts[i].rope_ids,
            group=groups[i],
        )
        for i, weight, length in zip(members, weights, lengths, strict=True)
    ]
    if leave_idle:
        sequences = _with_gradient(sequences)
    budget, pad_id, device = recipe.optim.tokens_on(loaded.device.type), loaded.chat.pad_id, loaded.device
    if recipe.optim.shared_prompt and shared_prompt.refusal(loaded.model) is None:
        copies = not copy_free(loaded.model, loaded.compute_dtype)
        packed = pack_groups(sequences, micro_tokens=budget, pad_id=pad_id, device=device, copies=copies)
    else:
        length = loaded.pack_length(recipe.optim.pack_length)
        packed = pack(sequences, pack_length=length, micro_tokens=budget, pad_id=pad_id)
    return [batch.to(device) for batch in packed]


def _tokens(batches: list[Microbatch]) -> int:
    """Tokens that go through the model: shared prompts count once."""
    prompts = {id(batch.prefix): batch.prefix for batch in batches if batch.prefix is not None}
    own = sum(int((batch.sequence_ids >= 0).sum()) for batch in batches)
    return own + sum(int(prefix.attention_mask.sum()) for prefix in prompts.values())


def _with_gradient(sequences: list[PackedSequence]) -> list[PackedSequence]:
    """Those with a weight and an advantage, and one with an image and one at all where none is left: the optimizer must
    see a gradient of zeros where it would have, not none."""
    kept = [s for s in sequences if s.weight and any(s.advantages)]
    for idle in (next((s for s in sequences if s.mm_kwargs), None), *sequences[:1]):
        if idle is not None and not any(bool(s.mm_kwargs) >= bool(idle.mm_kwargs) for s in kept):
            kept.append(idle)
    return kept


def make_loss(
    recipe: Recipe, batches: list[Microbatch], old: list[Tensor] | None, reference: list[Tensor] | None
) -> LossFn:
    """The loss of one gradient step, for `Policy.forward_backward`; old and reference are [N] per micro-batch."""
    algorithm = recipe.algorithm
    number = {id(batch): i for i, batch in enumerate(batches)}

    def loss_fn(outputs: TokenOutputs, batch: Microbatch) -> tuple[Tensor, dict[str, Tensor]]:
        mask, i = batch.loss_mask, number[id(batch)]
        weights, logprobs = batch.weights[mask], outputs.logprobs
        old_logprobs = logprobs.detach() if old is None else old[i]
        loss, metrics = policy_loss(
            logprobs,
            old_logprobs,
            batch.advantages[mask],
            weights,
            clip_low=algorithm.clip_low,
            clip_high=algorithm.clip_high,
        )
        metrics["loss/policy"] = loss[None]
        metrics["mismatch_kl"] = mismatch_kl(batch.generator_logprobs[mask], logprobs)
        if reference is not None:
            kl = kl_penalty(logprobs, reference[i])
            loss = loss + algorithm.kl_beta * (weights * kl).sum()
            metrics["loss/kl"] = kl
        return loss, metrics

    return loss_fn


def _load_reference(recipe: Recipe) -> torch.nn.Module | None:
    """The starting model, frozen, where the recipe has a KL term."""
    if recipe.algorithm.kl_beta == 0:
        return None
    loaded = load_recipe_model(recipe)
    model: torch.nn.Module = loaded.model.requires_grad_(False)
    return model


def _score_with(policy: Policy, reference: torch.nn.Module, batches: list[Microbatch]) -> list[Tensor]:
    """Log-probs [N] per micro-batch under the reference weights."""
    trained, policy.loaded.model = policy.loaded.model, reference
    try:
        return policy.score(batches)
    finally:
        policy.loaded.model = trained


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
