"""One rank reads a model that is to be sharded; the others have its shapes, then their shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.families import FAMILIES, FAST_FAMILIES, save_family
from helpers.nano import make_samples, nano_recipe
from helpers.ranks import on_ranks
from seethink.config import Recipe
from seethink.dist.world import is_main
from seethink.models.forward import hidden_states
from seethink.models.load import load_model, load_recipe_model
from seethink.models.shares import whole
from seethink.train.start import _loading_device, make_policy


def compare(recipe: Recipe) -> None:
    """What the ranks have after sharding, against a model that every rank reads."""
    device = _loading_device(recipe)
    assert device.type == ("cpu" if is_main() else "meta")
    loaded, plain = load_recipe_model(recipe, device), load_model(recipe.model)
    assert {p.device.type for p in loaded.model.parameters()} == {device.type}
    assert (loaded.stop_ids, loaded.banned_ids) == (plain.stop_ids, plain.banned_ids)
    policy = make_policy(recipe, loaded, 1)
    adapted = bool(recipe.lora.parts)
    found = {n.replace(".base_layer.", "."): whole(p.detach()) for n, p in loaded.model.named_parameters()}
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(found.pop(name), parameter), name
    assert bool(found) == adapted  # what is left are the adapters
    for (name, buffer), (_, other) in zip(loaded.model.named_buffers(), plain.model.named_buffers(), strict=True):
        assert torch.equal(buffer, other), name
    tensors = [v for m in loaded.model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    assert not any(tensor.is_meta for tensor in tensors)

    prompt = plain.chat.prompt(make_samples((1,))[0])
    ids = torch.tensor([prompt.input_ids])
    positions = torch.arange(ids.shape[1])[None]
    if prompt.rope_ids is not None:
        positions = torch.cat([positions[None], prompt.rope_ids[:, None]])
    with policy.whole_weights(), torch.no_grad():
        ours, others = (hidden_states(m, ids, positions, prompt.mm_kwargs) for m in (loaded.model, plain.model))
    assert torch.equal(ours, others)

    # Weights that come later: the names that are given change, on all ranks, and no others.
    name, weight = next((n, p) for n, p in loaded.model.named_parameters() if ".base_layer." not in n)
    before = {n: whole(p.detach()).clone() for n, p in loaded.model.named_parameters()}
    policy.take(lambda: {name: torch.full(weight.shape, 3.0)} if is_main() else pytest.fail("read on another rank"))
    for other, parameter in loaded.model.named_parameters():
        expected = torch.full(weight.shape, 3.0) if other == name else before[other]
        assert torch.equal(whole(parameter.detach()), expected), other


@pytest.mark.parametrize("family", [f if f in FAST_FAMILIES else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES])
def test_every_family(family: str, tmp_path: Path) -> None:
    folder = save_family(family, tmp_path / family)
    on_ranks(2, compare, tmp_path, nano_recipe(folder, "cluster.shard=zero3"))


@pytest.mark.slow
def test_adapters_are_those_of_rank_0(random_nano: Path, tmp_path: Path) -> None:
    on_ranks(2, compare, tmp_path, nano_recipe(random_nano, "cluster.shard=zero2", 'lora.parts=["language"]'))
