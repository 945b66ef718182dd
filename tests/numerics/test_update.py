"""All gradient steps of an episode: which log-probs are the old ones, what the split changes, what masking means."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.nano import completions_of, gradients, load_nano, nano_recipe, random_episode, relative_error
from helpers.training import make_critic, make_loss, make_policy, microbatches, update
from seethink.config import Recipe
from seethink.core.types import RolloutGroup
from seethink.models.load import LoadedModel
from seethink.models.scorer import TokenScorer
from seethink.rl import surrogates
from seethink.rl.batching import sampled_responses
from seethink.rl.losses import kl_penalty, policy_loss, token_weights
from seethink.rl.rollout import Episode
from seethink.train import grpo
from seethink.train.policy import score

NAN = float("nan")
REWARDS = [[0.0, 1.0, 0.2], [1.0, 0.0, 0.8], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0]]


def gradient(loaded: LoadedModel, recipe: Recipe, episode: Episode) -> torch.Tensor:
    """Of the loss of one gradient step over the whole episode."""
    loaded.model.zero_grad()
    policy = make_policy(loaded, recipe, 1)
    completions = completions_of(episode)
    batches = microbatches(recipe, episode, completions, list(range(len(completions))), loaded)
    policy.forward_backward(batches, make_loss(recipe, batches, None, None))
    return gradients(loaded.model)


def distributions(loaded: LoadedModel, episode: Episode) -> list[torch.Tensor]:
    """[T, V] log-probs of each response with the whole model, unpacked."""
    found = []
    for group in episode.groups:
        for c in group.completions:
            ids = torch.tensor([group.prompt.input_ids + c.token_ids])
            logits = loaded.model(input_ids=ids, **group.prompt.mm_kwargs).logits[0, -len(c.token_ids) - 1 : -1]
            found.append(logits.index_fill(-1, torch.tensor(loaded.banned_ids), float("-inf")).log_softmax(-1))
    return found


def alone(loaded: LoadedModel, episode: Episode) -> list[torch.Tensor]:
    """[T] Log-probs of each response with the whole model, unpacked."""
    pairs = zip(distributions(loaded, episode), completions_of(episode), strict=True)
    return [logps.gather(-1, torch.tensor(c.token_ids)[:, None]).squeeze(-1) for logps, c in pairs]


@pytest.mark.parametrize("aggregation", ["sequence", "token", "dr_grpo"])
def test_gradient_equals_eq_6_on_unpacked_sequences(nano64: LoadedModel, aggregation: Any) -> None:
    """From the printed formula: ratio 1, so the gradient is that of -A log p, averaged."""
    episode = random_episode(nano64, REWARDS[:2])
    completions = completions_of(episode)
    ours = gradient(nano64, nano_recipe("", f"algorithm.aggregation={aggregation}"), episode)
    nano64.model.zero_grad()
    sums = [-c.advantage * logps.sum() for c, logps in zip(completions, alone(nano64, episode), strict=True)]
    lengths = [len(c.token_ids) for c in completions]
    count, limit = len(completions), episode.max_new_tokens
    naive = {
        "sequence": sum(s / n for s, n in zip(sums, lengths, strict=True)) / count,
        "token": sum(sums) / sum(lengths),
        "dr_grpo": sum(sums) / (count * limit),
    }
    naive[aggregation].backward()
    assert relative_error(ours, gradients(nano64.model)) < 1e-6  # weights and advantages are float32 in a Microbatch


@pytest.mark.parametrize("aggregation", ["sequence", "token", "dr_grpo"])
def test_micro_batch_split_changes_nothing(nano64: LoadedModel, aggregation: str) -> None:
    episode = random_episode(nano64, REWARDS)
    split = [
        nano_recipe("", f"algorithm.aggregation={aggregation}", f"optim.micro_tokens={m}", f"optim.pack_length={p}")
        for m, p in ((1, 1), (150, 70), (100_000, 10_000))
    ]
    counts = [len(microbatches(r, episode, completions_of(episode), list(range(12)), nano64)) for r in split]
    assert counts[0] == 12 > counts[1] > counts[2] == 1
    finest, middle, whole = (gradient(nano64, recipe, episode) for recipe in split)
    assert relative_error(finest, whole) < 1e-12
    assert relative_error(middle, whole) < 1e-12


@pytest.mark.parametrize("aggregation", ["sequence", "token", "dr_grpo"])
def test_masked_completions_have_no_influence(nano64: LoadedModel, aggregation: str) -> None:
    """The gradient is that of the episode without them."""
    recipe = nano_recipe("", f"algorithm.aggregation={aggregation}", "optim.micro_tokens=300")
    episode = random_episode(nano64, [[0.0, NAN, 1.0], [NAN, 0.2, 0.8], [NAN, NAN, NAN]])
    ours = gradient(nano64, recipe, episode)
    for group in episode.groups:
        group.completions = [c for c in group.completions if c.reward == c.reward]
    episode.groups.pop()
    assert len(completions_of(episode)) == 4
    assert relative_error(ours, gradient(nano64, recipe, episode)) < 1e-12


def test_nothing_graded_moves_nothing(nano: LoadedModel) -> None:
    recipe = nano_recipe("", "optim.weight_decay=0.0")
    before = [p.detach().clone() for p in nano.model.parameters()]
    metrics = update(make_policy(nano, recipe, 1), recipe, random_episode(nano, [[NAN, NAN]]), None, None)
    assert metrics["optim/grad_norm"] == 0.0
    assert all(torch.equal(p, b) for p, b in zip(nano.model.parameters(), before, strict=True))


Seen = list[tuple[torch.Tensor, torch.Tensor]]


def spy_on_losses(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """(log-probs, old log-probs) of every call of the policy loss."""
    seen: Seen = []

    def spy(logprobs: torch.Tensor, old: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append((logprobs.detach().clone(), old.clone()))
        return policy_loss(logprobs, old, *args, **kwargs)

    monkeypatch.setattr(surrogates, "policy_loss", spy)
    return seen


def test_old_logprobs_are_those_before_the_first_update(nano64: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of the second minibatch, which is seen after the first one's update."""
    recipe = nano_recipe("", "algorithm.epochs=2", "algorithm.minibatches=2", "rollout.prompts_per_step=4")
    episode = random_episode(nano64, REWARDS)
    policy = make_policy(nano64, recipe, 4)
    everything = microbatches(recipe, episode, completions_of(episode), list(range(12)), nano64)
    before = torch.cat(policy.logprobs(everything)).sort().values
    seen = spy_on_losses(monkeypatch)
    metrics = update(policy, recipe, episode, None, None)
    assert len(seen) == 4
    assert policy.steps_done == 4
    first_epoch, second_epoch = seen[:2], seen[2:]
    torch.testing.assert_close(torch.cat([old for _, old in first_epoch]).sort().values, before, rtol=0, atol=1e-12)
    for (now, old), (later, old_again) in zip(first_epoch, second_epoch, strict=True):
        assert torch.equal(old, old_again)
        assert relative_error(later, now) > 1e-3
    assert torch.equal(*first_epoch[0]), "the first step is on-policy"
    assert relative_error(*first_epoch[1]) > 1e-3, "the second is not"
    assert metrics["loss/clip_fraction"] > 0


def test_minibatches_alone_also_need_old_logprobs(nano: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch: the second minibatch comes after an update, so its ratios are not 1."""
    seen = spy_on_losses(monkeypatch)
    recipe = nano_recipe("", "algorithm.minibatches=2", "rollout.prompts_per_step=4")
    update(make_policy(nano, recipe, 2), recipe, random_episode(nano, REWARDS), None, None)
    (first, first_old), (second, second_old) = seen
    assert relative_error(first, first_old) < 1e-6
    assert relative_error(second, second_old) > 1e-3


def test_clip_range_of_the_recipe_is_used(nano64: LoadedModel) -> None:
    recipe = nano_recipe("", "algorithm.clip_low=0.1", "algorithm.clip_high=0.6")
    episode = random_episode(nano64, REWARDS[:2])
    policy = make_policy(nano64, recipe, 1)
    (batch,) = microbatches(recipe, episode, completions_of(episode), list(range(6)), nano64)
    outputs, mask = policy.outputs([batch])[0], batch.loss_mask
    torch.manual_seed(0)
    old = outputs.logprobs.detach() + 0.5 * torch.randn_like(outputs.logprobs)
    ours, _ = make_loss(recipe, [batch], [old], None)(outputs, batch)
    advantages, weights = batch.advantages[mask], batch.weights[mask]
    expected, _ = policy_loss(outputs.logprobs, old, advantages, weights, clip_low=0.1, clip_high=0.6)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("old_is_given", [False, True])
def test_what_older_weights_sampled_has_the_gradient_of_the_ratio_to_them(
    nano64: LoadedModel, old_is_given: bool
) -> None:
    """Rollouts ahead: the ratio that is clipped is to the trained weights before the update, and the weights make it
    that to the ones that sampled: -sum w A p / q, with its gradient, where nothing is cut."""
    recipe = nano_recipe("", "algorithm.mismatch_correction=token", "algorithm.mismatch_cap=1e6")
    episode = random_episode(nano64, REWARDS[:2])
    torch.manual_seed(1)
    for completion in completions_of(episode):
        completion.generator_logprobs = (-7 + torch.randn(len(completion.token_ids))).tolist()
    policy = make_policy(nano64, recipe, 1)
    (batch,) = microbatches(recipe, episode, completions_of(episode), list(range(6)), nano64)
    for name in ("weights", "advantages", "generator_logprobs"):
        setattr(batch, name, getattr(batch, name).double())
    logprobs = policy.outputs([batch])[0].logprobs.detach().requires_grad_()
    outputs = policy.outputs([batch])[0]._replace(logprobs=logprobs)
    ours, metrics = make_loss(recipe, [batch], [logprobs.detach()] if old_is_given else None, None)(outputs, batch)
    mask = batch.loss_mask
    ratio = (logprobs - batch.generator_logprobs[mask]).exp()
    expected = -(batch.weights[mask] * batch.advantages[mask] * ratio).sum()
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)
    for found, wanted in zip(torch.autograd.grad(ours, logprobs), torch.autograd.grad(expected, logprobs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(metrics["mismatch_kl/weight"], ratio.detach(), rtol=0, atol=1e-12)
    assert ratio.max() > 2


@pytest.mark.parametrize("shared", [True, False])
def test_strictly_on_policy_needs_no_second_forward(
    nano: LoadedModel, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Shared prompts are one forward, their responses another; repeated prompts go with their responses."""
    seen = spy_on_losses(monkeypatch)
    recipe = nano_recipe("", f"optim.shared_prompt={str(shared).lower()}")
    policy = make_policy(nano, recipe, 1)
    forwards = []
    nano.model.model.register_forward_hook(lambda *args: forwards.append(1))
    metrics = update(policy, recipe, random_episode(nano, REWARDS), None, None)
    assert len(forwards) == 1 + shared
    assert len(seen) == policy.steps_done == 1
    assert torch.equal(*seen[0])
    assert metrics["loss/clip_fraction"] == 0.0


def test_kl_to_the_policy_itself_is_zero_and_flat(nano64: LoadedModel, nano_folder: Any) -> None:
    """At the start the reference is the policy: the KL term changes neither loss nor gradient."""
    episode = random_episode(nano64, REWARDS[:2])
    plain, with_kl = nano_recipe(), nano_recipe("", "algorithm.kl_beta=0.5")
    expected = gradient(nano64, plain, episode)
    nano64.model.zero_grad()
    frozen = load_nano(nano_folder, torch.float64)
    frozen.model.requires_grad_(False)
    policy = make_policy(nano64, with_kl, 1)
    completions = completions_of(episode)
    batches = microbatches(with_kl, episode, completions, list(range(len(completions))), nano64)
    kl = [outputs.logprobs for outputs in score(TokenScorer(frozen), batches)]
    recorded = policy.forward_backward(batches, make_loss(with_kl, batches, None, kl))
    assert recorded["loss/kl"].abs().max() < 1e-12
    assert relative_error(gradients(nano64.model), expected) < 1e-12


def test_kl_term_equals_the_formula(nano64: LoadedModel) -> None:
    """beta times the weighted mean of k3, against another reference, on top of the policy loss."""
    recipe = nano_recipe("", "algorithm.kl_beta=0.3")
    episode = random_episode(nano64, REWARDS[:1])
    policy = make_policy(nano64, recipe, 1)
    (batch,) = microbatches(recipe, episode, completions_of(episode), [0, 1, 2], nano64)
    outputs = policy.outputs([batch])[0]
    torch.manual_seed(0)
    reference = outputs.logprobs.detach() + 0.2 * torch.randn_like(outputs.logprobs)
    weights = batch.weights[batch.loss_mask]
    with_kl, _ = make_loss(recipe, [batch], None, [reference])(outputs, batch)
    without, _ = make_loss(recipe, [batch], None, None)(outputs, batch)
    expected = 0.3 * (weights * kl_penalty(outputs.logprobs, reference)).sum()
    assert (with_kl - without).item() == pytest.approx(expected.item(), abs=1e-12)
    assert expected > 0


def test_the_entropy_bonus_has_the_gradient_of_a_plain_forward(nano64: LoadedModel) -> None:
    """-0.3 times the weighted entropies of unpacked responses, which no advantage moves."""
    episode = random_episode(nano64, REWARDS[:2])
    for one in completions_of(episode):
        one.advantage = 0.0
    assert not gradient(nano64, nano_recipe(), episode).any()
    found = gradient(nano64, nano_recipe("", "algorithm.entropy_bonus=0.3"), episode)
    nano64.model.zero_grad()
    weights = token_weights([len(c.token_ids) for c in completions_of(episode)], "sequence", 16)
    entropies = [-(logps.exp() * logps.clamp_min(-1e4)).sum() for logps in distributions(nano64, episode)]
    (-0.3 * sum(weight * entropy for weight, entropy in zip(weights, entropies, strict=True))).backward()
    assert relative_error(found, gradients(nano64.model)) < 1e-7  # weights are float32 in a Microbatch


def test_minibatches_split_prompts_not_groups(nano: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every completion once an epoch, a prompt's completions together, each part a mean of its own."""
    parts: list[list[int]] = []
    episode = random_episode(nano, REWARDS)
    places = {id(c): i for i, c in enumerate(episode.completions)}

    def spy(groups: list[RolloutGroup], *args: Any, **keys: Any) -> Any:
        parts.append([places[id(c)] for group in groups for c in group.completions])
        return sampled_responses(groups, *args, **keys)

    monkeypatch.setattr(grpo, "sampled_responses", spy)
    recipe = nano_recipe("", "algorithm.minibatches=2", "rollout.prompts_per_step=4")
    update(make_policy(nano, recipe, 2), recipe, episode, None, None)
    assert parts == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]


def test_temperature_is_the_samplers(nano64: LoadedModel) -> None:
    """The trainer's distribution is the one that was sampled from."""
    recipe = nano_recipe("", "rollout.temperature=0.5")
    episode = random_episode(nano64, REWARDS[:1])
    (batch,) = microbatches(recipe, episode, completions_of(episode), [0, 1, 2], nano64)
    at_half = make_policy(nano64, recipe, 1).logprobs([batch])[0]
    at_one = make_policy(nano64, nano_recipe(), 1).logprobs([batch])[0]
    assert relative_error(at_half, at_one) > 0.05


# Precision


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_bfloat16_stays_near_float32(nano: LoadedModel, stage: str) -> None:
    """Forward passes in bfloat16 on float32 weights: the gradient points the same way."""
    recipe = nano_recipe(stage=stage)
    episode = random_episode(nano, REWARDS)
    expected = gradient(nano, recipe, episode)
    nano.compute_dtype = torch.bfloat16
    ours = gradient(nano, recipe, episode)
    assert ours.dtype == torch.float32
    assert torch.cosine_similarity(ours, expected, dim=0) > 0.99
    critic = make_critic(recipe, nano) if stage == "ppo" else None
    metrics = update(make_policy(nano, recipe, 1), recipe, episode, None, critic)
    assert 0 < metrics["optim/grad_norm"] < 1e3


def test_loss_metric_is_the_loss(nano: LoadedModel) -> None:
    """On-policy the reported loss is -sum w A, whatever the model says."""
    recipe = nano_recipe("", "optim.micro_tokens=150")
    episode = random_episode(nano, REWARDS)
    completions = completions_of(episode)
    weights = token_weights([len(c.token_ids) for c in completions], "sequence", 16)
    expected = -sum(w * c.advantage * len(c.token_ids) for w, c in zip(weights, completions, strict=True))
    metrics = update(make_policy(nano, recipe, 1), recipe, episode, None, None)
    assert metrics["loss/total"] == pytest.approx(expected, abs=1e-6)
    assert metrics["loss/policy"] == pytest.approx(expected, abs=1e-6)


# Idle completions: no advantage, or no weight


def _episode_with_idle(loaded: LoadedModel) -> Episode:
    """Four groups: the second is flat, one completion of the third is masked, and so is the only image's."""
    episode = random_episode(loaded, REWARDS, images=[0, 1, 0, 0])
    for completion in episode.groups[1].completions:
        completion.advantage = 0.0
    episode.groups[2].completions[0].reward = float("nan")
    return episode


@pytest.mark.parametrize("aggregation", ["sequence", "token", "dr_grpo"])
def test_leaving_out_the_idle_changes_no_update(nano_folder: Any, aggregation: str) -> None:
    """After a first step with images the optimizer has momentum: zeros and no gradient are not the same."""
    ends, trained = [], []
    for leave_idle in (True, False):
        loaded = load_nano(nano_folder, torch.float64)
        recipe = nano_recipe("", f"algorithm.aggregation={aggregation}", "optim.weight_decay=0.1")
        policy = make_policy(loaded, recipe, 2)
        for episode in (random_episode(loaded, REWARDS), _episode_with_idle(loaded)):
            completions = completions_of(episode)
            members = list(range(len(completions)))
            batches = microbatches(recipe, episode, completions, members, loaded, leave_idle=leave_idle)
            policy.forward_backward(batches, make_loss(recipe, batches, None, None))
            policy.optimizer_step()
        trained.append(sum(len(b.sequence_ids) for b in batches))
        ends.append(torch.cat([p.detach().flatten() for p in loaded.model.parameters()]))
    assert trained[0] < trained[1]
    assert relative_error(ends[0], ends[1]) < 1e-9


def test_an_episode_of_flat_groups_still_steps(nano: LoadedModel) -> None:
    episode = random_episode(nano, REWARDS[:2])
    for completion in completions_of(episode):
        completion.advantage = 0.0
    metrics = update(make_policy(nano, nano_recipe(), 1), nano_recipe(), episode, None, None)
    assert metrics["loss/total"] == metrics["optim/grad_norm"] == 0.0
