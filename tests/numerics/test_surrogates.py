"""GSPO, CISPO, SAPO and gradients on uncertain tokens alone, against naive loops over responses and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from helpers.nano import completions_of, nano_recipe, random_episode
from helpers.training import batcher_of, make_policy
from seethink.config import AlgorithmConfig
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt
from seethink.data.control_images import blanked
from seethink.models.load import LoadedModel
from seethink.rl.batching import sampled_responses
from seethink.rl.losses import policy_loss, token_weights
from seethink.rl.surrogates import cispo_loss, gspo_loss, sapo_loss, surrogate_loss
from seethink.rl.uncertain import token_advantages
from seethink.train.image_kl import measure_image_kl

LENGTHS = (5, 1, 9, 3)
ADVANTAGES = (1.3, -0.4, -1.1, 0.2)
F64 = torch.float64


def draw(scale: float = 0.4) -> tuple[list[Tensor], list[Tensor]]:
    """(log-probs with gradient, old ones), one tensor a response."""
    torch.manual_seed(0)
    new = [(-3 * torch.rand(n, dtype=F64)).requires_grad_() for n in LENGTHS]
    return new, [(p + scale * torch.randn(len(p), dtype=F64)).detach() for p in new]


def joined(old: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(old log-probs, advantages, weights of the mean per response, owners)."""
    counts = torch.tensor(LENGTHS)
    weights = torch.tensor(token_weights(LENGTHS, "sequence", 16), dtype=F64).repeat_interleave(counts)
    advantages = torch.tensor(ADVANTAGES, dtype=F64).repeat_interleave(counts)
    return torch.cat(old), advantages, weights, torch.tensor((7, 2, 5, 3)).repeat_interleave(counts)


def naive_gspo(new: Tensor, old: Tensor, advantage: float) -> Tensor:
    """Equation 5: one ratio and one clip per response."""
    ratio = torch.exp(sum(a - b for a, b in zip(new, old, strict=True)) / len(new))
    bounded = ratio.clamp(1 - 0.1, 1 + 0.15)
    return torch.minimum(ratio * advantage, bounded * advantage)


def naive_cispo(new: Tensor, old: Tensor, advantage: float) -> Tensor:
    total = torch.zeros((), dtype=F64)
    for a, b in zip(new, old, strict=True):
        total = total + min(max(math.exp((a - b).item()), 0.9), 1.15) * advantage * a
    return total / len(new)


def naive_sapo(new: Tensor, old: Tensor, advantage: float) -> Tensor:
    total, tau = torch.zeros((), dtype=F64), 1.0 if advantage > 0 else 1.05
    for a, b in zip(new, old, strict=True):
        gate = 1 / (1 + torch.exp(-tau * (torch.exp(a - b) - 1)))
        total = total + 4 / tau * gate * advantage
    return total / len(new)


NAIVE: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "gspo": naive_gspo, "cispo": naive_cispo, "sapo": naive_sapo,
}  # fmt: skip


@pytest.mark.parametrize("name", NAIVE)
def test_loss_and_gradient_equal_a_naive_loop(name: str) -> None:
    new, old = draw()
    naive = -sum(NAIVE[name](*one) for one in zip(new, old, ADVANTAGES, strict=True)) / len(LENGTHS)
    theirs = torch.cat(torch.autograd.grad(naive, new, materialize_grads=True, allow_unused=True))
    logprobs = torch.cat(new).detach().requires_grad_()
    olds, advantages, weights, owners = joined(old)
    algorithm = AlgorithmConfig(loss=name, clip_low=0.1, clip_high=0.15)
    loss, _ = surrogate_loss(algorithm, logprobs, olds, advantages, weights, owners)
    loss.backward()
    assert loss.item() == pytest.approx(naive.item(), abs=1e-12)
    torch.testing.assert_close(logprobs.grad, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAIVE)
def test_at_the_sampling_policy_all_have_the_gradient_of_grpo(name: str) -> None:
    """Every ratio is 1: -w A for each token."""
    new, _ = draw()
    logprobs = torch.cat(new).detach().requires_grad_()
    _, advantages, weights, owners = joined(new)
    loss, _ = surrogate_loss(AlgorithmConfig(loss=name), logprobs, logprobs.detach(), advantages, weights, owners)
    loss.backward()
    torch.testing.assert_close(logprobs.grad, -weights * advantages, rtol=0, atol=1e-12)


def test_a_clipped_token_keeps_its_gradient_in_cispo_alone() -> None:
    """Ratio 2 and advantage 1, clipped at 1.2: GRPO has no gradient, CISPO 1.2, SAPO 4 s (1 - s) 2 at s = sigmoid 1."""
    logprob = torch.tensor([math.log(2.0)], dtype=F64, requires_grad=True)
    old, one = torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)
    clip = {"clip_low": 0.2, "clip_high": 0.2}
    sigmoid = 1 / (1 + math.exp(-1))
    for loss, expected in (
        (policy_loss(logprob, old, one, one, **clip), 0.0),
        (cispo_loss(logprob, old, one, one, **clip), -1.2),
        (sapo_loss(logprob, old, one, one, temperatures=(1.0, 1.05)), -8 * sigmoid * (1 - sigmoid)),
        (gspo_loss(logprob, old, one, one, torch.zeros(1, dtype=torch.long), **clip), 0.0),
    ):
        (gradient,) = torch.autograd.grad(loss[0], logprob, allow_unused=True)
        assert float(gradient) == pytest.approx(expected, abs=1e-12)


def test_gspo_clips_whole_responses() -> None:
    """Two responses of two tokens: mean log-ratios 0.3 (clipped) and 0, of tokens that move more."""
    logprobs = torch.tensor([0.5, 0.1, 0.9, -0.9], dtype=F64, requires_grad=True)
    owners, ones = torch.tensor([4, 4, 1, 1]), torch.ones(4, dtype=F64)
    loss, metrics = gspo_loss(logprobs, torch.zeros(4, dtype=F64), ones, ones, owners, clip_low=0.2, clip_high=0.2)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient.tolist() == pytest.approx([0, 0, -1, -1])
    assert metrics["loss/clip_fraction"].tolist() == [1, 1, 0, 0]


def responses() -> list[Completion]:
    """Entropies 0.1 ... 0.8 over two responses, and one without a reward."""
    made = []
    for entropies, reward, advantage in (
        ([0.1, 0.8, 0.3, 0.6], 1.0, 2.0), ([0.5, 0.2, 0.7, 0.4], 0.0, -1.0), ([9.0, 9.0], float("nan"), 0.0),
    ):  # fmt: skip
        one = Completion([5] * len(entropies), [0.0] * len(entropies), entropies, "", False, 0)
        one.reward, one.advantage = reward, advantage
        made.append(one)
    return made


def test_the_most_uncertain_share_of_all_graded_tokens_keeps_its_advantage() -> None:
    assert token_advantages(responses(), 0.25) == [[0, 2, 0, 0], [0, 0, -1, 0], [0, 0]]
    assert token_advantages(responses(), 0.5) == [[0, 2, 0, 2], [-1, 0, -1, 0], [0, 0]]
    assert token_advantages(responses(), 1) == [[2] * 4, [-1] * 4, [0] * 2]
    assert token_advantages([], 0.2) == []


def test_an_episode_is_trained_on_its_uncertain_tokens_with_the_weights_of_all(nano64: LoadedModel) -> None:
    episode = random_episode(nano64, [[0.0, 1.0, 0.2]])
    completions = completions_of(episode)
    for number, one in enumerate(completions):
        one.entropies = [0.01 * number + 0.1 * t for t in range(len(one.token_ids))]
    every = sampled_responses(episode.groups, "sequence", 16)
    some = sampled_responses(episode.groups, "sequence", 16, token_share=0.2)
    total = sum(len(one.token_ids) for one in completions)
    assert sum(bool(a) for one in some for a in one.advantages) == math.ceil(0.2 * total)
    assert [one.weight for one in some] == [one.weight for one in every]


def test_the_dependence_on_the_picture_is_the_kl_to_a_grey_one(nano64: LoadedModel) -> None:
    """Against two plain forwards of each response; where there is no picture it is 0."""
    episode = random_episode(nano64, [[0.0, 1.0], [1.0, 0.0]])  # a picture, and none
    recipe = nano_recipe("", "rollout.temperature=0.7")
    measure_image_kl(make_policy(nano64, recipe, 1), episode, batcher_of(recipe, nano64))
    seen, blind = episode.groups
    assert seen.prompt.mm_kwargs
    assert [one.image_kl for one in blind.completions] == [[0.0] * len(one.token_ids) for one in blind.completions]
    grey = nano64.chat.prompt(blanked(seen.prompt.sample))
    for one in seen.completions:
        p, q = (plain_logps(nano64, prompt, one.token_ids, 0.7) for prompt in (seen.prompt, grey))
        expected = [
            sum(a.exp() * (a - b) for a, b in zip(*pair, strict=True) if a > -1e3) for pair in zip(p, q, strict=True)
        ]
        assert one.image_kl == pytest.approx([float(kl) for kl in expected], rel=1e-9)
    assert max(max(one.image_kl) for one in seen.completions) > 1e-3


def plain_logps(loaded: LoadedModel, prompt: Prompt, token_ids: list[int], temperature: float) -> Tensor:
    """[T, V]"""
    ids = torch.tensor([prompt.input_ids + token_ids])
    with torch.no_grad():
        logits = loaded.model(input_ids=ids, **prompt.mm_kwargs).logits[0, -len(token_ids) - 1 : -1] / temperature
    return logits.index_fill(-1, torch.tensor(loaded.banned_ids), float("-inf")).log_softmax(-1)


def test_the_tokens_that_depend_most_on_the_picture_keep_their_advantage() -> None:
    made = responses()
    for one in made:
        one.image_kl = [1.0 - entropy for entropy in one.entropies]
    assert token_advantages(made, 0.25, "image") == [[2, 0, 0, 0], [0, -1, 0, 0], [0, 0]]


def test_recipes_in_which_a_key_would_change_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="one gradient step per episode"):
        nano_recipe("", "algorithm.loss=gspo")
    with pytest.raises(UserError, match="sapo_temperatures must be above 0"):
        nano_recipe("", "algorithm.loss=sapo", "algorithm.epochs=2", "algorithm.sapo_temperatures=[0, 1]")
    with pytest.raises(UserError, match="which keeps every token"):
        nano_recipe("", "algorithm.token_measure=image")
    assert nano_recipe("", "algorithm.loss=gspo", "algorithm.epochs=2").algorithm.loss == "gspo"
