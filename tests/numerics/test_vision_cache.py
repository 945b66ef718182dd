"""A frozen encoder's features are kept, and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.families import FAMILY_PARAMS, plain_experts, save_family
from helpers.nano import gradients, make_samples, nano_recipe, random_episode, relative_error
from helpers.training import make_loss, make_policy, microbatches
from seethink.config import Recipe
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models import vision_cache
from seethink.models.load import LoadedModel, load_model
from seethink.models.parts import family_of
from seethink.models.vision_cache import VisionCache, keep_features

FROZEN = "parts.train=['connector','language']"


@pytest.fixture
def _small_encoders_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_cache, "LEAST_WORK", 0)


def cache_of(loaded: LoadedModel) -> Any:
    return loaded.model.get_submodule(family_of(loaded.model).vision[0]).forward


def gradient(loaded: LoadedModel, recipe: Recipe, *, updates: int = 1) -> Tensor:
    episode = random_episode(loaded, [[0.0, 1.0], [1.0, 0.0]], images=[1, 1])
    completions = [c for group in episode.groups for c in group.completions]
    policy = make_policy(loaded, recipe, 1)
    for _ in range(updates):
        batches = microbatches(recipe, episode, completions, list(range(len(completions))), loaded)
        loaded.model.zero_grad()
        policy.forward_backward(batches, make_loss(recipe, batches, None, None))
    return gradients(loaded.model)


@pytest.mark.usefixtures("_small_encoders_too")
@pytest.mark.parametrize("family", FAMILY_PARAMS)
def test_the_gradient_is_the_same_and_an_image_is_encoded_once(family: str, tmp_path: Path) -> None:
    """The encoders of Qwen and GLM hold their connector, and stay as they are."""
    loaded = load_model(str(save_family(family, tmp_path)))
    with plain_experts(loaded.model):
        _the_same(loaded, family)


def _the_same(loaded: LoadedModel, family: str) -> None:
    loaded.model.double()
    without = gradient(loaded, nano_recipe("unused", FROZEN, "parts.vision_cache_mb=0"))
    assert not isinstance(cache_of(loaded), VisionCache)
    found = gradient(loaded, nano_recipe("unused", FROZEN), updates=3)
    assert relative_error(found, without) < 1e-6  # the families' own float32 norms
    cache = cache_of(loaded)
    assert isinstance(cache, VisionCache) == ("qwen" not in family and "glm" not in family)
    if family in ("mistral3", "gemma4", "kimi_k25"):
        assert cache.hits == cache.misses == 0, "images of any size share a row, or come as patches"
    elif isinstance(cache, VisionCache):
        assert cache.hits >= 2 * cache.misses > 0  # a picture may have several tiles, some alike


@pytest.mark.usefixtures("_small_encoders_too")
@pytest.mark.slow
def test_decoding_and_training_share_features(nano: LoadedModel) -> None:
    policy = make_policy(nano, nano_recipe("unused", FROZEN), 1)
    prompts = [nano.chat.prompt(sample) for sample in make_samples((1, 1, 0))]
    first = InProcessGenerator(nano).generate(prompts, 2, Sampling(5), (0,))
    cache = cache_of(nano)
    seen = cache.misses
    assert seen == 2
    again = InProcessGenerator(nano).generate(prompts, 2, Sampling(5), (0,))
    assert _ids(first) == _ids(again)
    gradient(nano, nano_recipe("unused", FROZEN))
    assert policy.model is nano.model


def _ids(groups: Sequence[Sequence[Any]]) -> list[list[int]]:
    return [c.token_ids for group in groups for c in group]


@pytest.mark.usefixtures("_small_encoders_too")
def test_features_do_not_depend_on_the_batch_and_follow_the_weights(nano: LoadedModel) -> None:
    keep_features(nano.model, nano_recipe("unused", FROZEN).parts)
    nano.model.requires_grad_(False)
    cache, encoder = cache_of(nano), nano.model.get_submodule("model.vision_tower")
    pixels = torch.randn(3, 3, 56, 56)
    with torch.inference_mode():
        together = encoder(pixel_values=pixels).last_hidden_state
    alone = [encoder(pixel_values=pixels[i : i + 1]).last_hidden_state for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert (cache.misses, cache.hits) == (3, 3)
    expected = cache.plain(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        next(p for p in encoder.parameters() if p.any()).mul_(1.5)
    changed = encoder(pixel_values=pixels[:1]).last_hidden_state
    assert cache.misses == 4
    assert not torch.equal(changed, alone[0])


@pytest.mark.usefixtures("_small_encoders_too")
def test_the_oldest_features_make_room(nano: LoadedModel) -> None:
    nano.model.requires_grad_(False)
    encoder = nano.model.get_submodule("model.vision_tower")
    one = encoder(pixel_values=torch.zeros(1, 3, 56, 56)).last_hidden_state
    size = one.numel() * one.element_size()
    cache = VisionCache(encoder, 2 * size + 1)
    pixels = torch.randn(3, 3, 56, 56)
    for place in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, which was seen longer ago than 0
        encoder(pixel_values=pixels[place : place + 1])
        assert cache.bytes <= 2 * size
    assert (cache.misses, cache.hits) == (4, 2)
    encoder.forward = cache.plain


def test_where_features_are_not_kept(nano: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vision encoder that learns, one that the recipe takes the cache from, one that is too small to gain."""
    assert keep_features(nano.model, nano_recipe().parts) is None
    assert keep_features(nano.model, nano_recipe("unused", FROZEN, "parts.vision_cache_mb=0").parts) is None
    cache = keep_features(nano.model, nano_recipe("unused", FROZEN).parts)
    assert cache is not None
    gradient(nano, nano_recipe("unused", FROZEN))
    assert cache_of(nano).misses == 0
    monkeypatch.setattr(vision_cache, "LEAST_WORK", 0)
    nano.model.get_submodule("model.vision_tower").requires_grad_(True)
    nano.model.get_submodule("model.vision_tower")(pixel_values=torch.zeros(1, 3, 56, 56))
    assert cache_of(nano).misses == 0


@pytest.mark.parametrize("shared", ["true", "false"])
def test_text_alone_teaches_a_connector_nothing(nano: LoadedModel, shared: str) -> None:
    recipe = nano_recipe("unused", 'parts.train=["connector"]', f"optim.shared_prompt={shared}")
    episode = random_episode(nano, [[0.0, 1.0]], images=[0])
    completions = [c for group in episode.groups for c in group.completions]
    batches = microbatches(recipe, episode, completions, list(range(len(completions))), nano)
    policy = make_policy(nano, recipe, 1)
    nano.model.zero_grad()
    metrics = policy.forward_backward(batches, make_loss(recipe, batches, None, None))
    assert len(metrics["loss/total"]) > 0
    assert all(p.grad is None or not p.grad.any() for p in nano.model.parameters())
