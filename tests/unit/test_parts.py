"""Parts by role: every parameter in exactly one, what is frozen stays, what learns moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import nano_recipe
from seethink.config import PARTS, PartModules
from seethink.models.load import LoadedModel, load_model
from seethink.models.parts import FAMILIES, PartsError, family_of, owners_of, split_parts, use_modules
from seethink.models.trainable import FrozenPartMovedError, PartsProof, param_groups


@pytest.fixture
def loaded(random_nano: Path) -> LoadedModel:
    return load_model(str(random_nano))


def optimizer_for(model: Any, *overrides: str) -> tuple[torch.optim.Optimizer, PartsProof, Any]:
    recipe = nano_recipe("x", *overrides)
    optimizer = torch.optim.AdamW(param_groups(model, recipe.parts, recipe.lora, recipe.optim), lr=recipe.optim.lr)
    return optimizer, PartsProof(model, recipe.parts, optimizer), recipe


def step(optimizer: torch.optim.Optimizer, model: Any) -> None:
    """One update with a gradient on everything that may have one."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def test_every_parameter_is_in_exactly_one_part(loaded: LoadedModel) -> None:
    parts = split_parts(loaded.model)
    assert tuple(parts) == PARTS
    names = [name for named in parts.values() for name in named]
    assert sorted(names) == sorted(name for name, _ in loaded.model.named_parameters())
    assert len(names) == len(set(names))
    assert {name.split(".")[1] for name in parts["vision"]} == {"vision_tower"}
    assert {name.split(".")[1] for name in parts["connector"]} == {"multi_modal_projector"}


def test_tied_weights_count_once(loaded: LoadedModel) -> None:
    model = loaded.model
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    held = [id(p) for named in split_parts(model).values() for p in named.values()]
    assert len(held) == len(set(held))
    assert sum(p.numel() for named in split_parts(model).values() for p in named.values()) == model.num_parameters()


def test_an_unknown_family_is_refused(loaded: LoadedModel) -> None:
    loaded.model.config.model_type = "newvlm"
    with pytest.raises(PartsError, match=r"no parts table for model type 'newvlm'; known: .*internvl"):
        family_of(loaded.model)


def test_a_parameter_outside_the_table_is_refused(loaded: LoadedModel) -> None:
    loaded.model.extra = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(PartsError, match="'extra' belongs to no part"):
        split_parts(loaded.model)


def test_a_part_without_parameters_is_refused(loaded: LoadedModel) -> None:
    loaded.model.model.multi_modal_projector = torch.nn.Identity()
    with pytest.raises(PartsError, match="no parameters in connector"):
        split_parts(loaded.model)


def test_no_path_of_the_family_table_is_in_two_parts() -> None:
    for family in FAMILIES.values():
        paths = [path for part in PARTS for path in family.paths(part)]
        assert len(paths) == len(set(paths))


def test_a_part_inside_another_owns_its_own() -> None:
    family = FAMILIES["qwen2_5_vl"]
    assert owners_of("model.visual.merger.mlp.0.weight", family) == ["connector"]
    assert owners_of("model.visual.blocks.0.norm1.weight", family) == ["vision"]
    assert owners_of("model.visual2.weight", family) == []


def test_modules_of_a_recipe_stand_for_the_table(loaded: LoadedModel) -> None:
    expected = {part: set(named) for part, named in split_parts(loaded.model).items()}
    loaded.model.config.model_type = "newvlm"
    modules = PartModules(
        vision=("model.vision_*",), connector=("*.multi_modal_projector",), language=("model.language_model", "lm_head")
    )
    use_modules(loaded.model, modules)
    assert {part: set(named) for part, named in split_parts(loaded.model).items()} == expected


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"vision": ("model.vision_tower",)}, "belongs to no part, nor do"),
        ({"vision": ("model.vision_tower", "model.multi_modal_projector")}, "claimed by vision and connector"),
        ({"vision": ("model.eyes",)}, "belongs to no part"),
        ({"language": ("model.language_model", "lm_head", "model"), "vision": ("nothing",)}, "no parameters in vision"),
    ],
)
def test_modules_that_do_not_cover_the_model(
    loaded: LoadedModel, patterns: dict[str, tuple[str, ...]], message: str
) -> None:
    given = {"connector": ("model.multi_modal_projector",), "language": ("model.language_model.layers",)} | patterns
    with pytest.raises(PartsError, match=message):
        use_modules(loaded.model, PartModules(**given))


@pytest.mark.parametrize("train", [("vision",), ("connector",), ("language",), ("vision", "language"), PARTS])
def test_the_recipe_decides_what_learns(loaded: LoadedModel, train: tuple[str, ...]) -> None:
    optimizer, proof, _ = optimizer_for(loaded.model, f"parts.train={list(train)}")
    for row in proof.rows:
        assert row.trainable == (row.part in train)
        assert row.in_optimizer == (row.parameters if row.trainable else 0)
        assert (row.lr > 0) == row.trainable
    step(optimizer, loaded.model)
    change = proof.check()
    assert {part for part, amount in change.items() if amount > 0} == set(train)


def test_rates_and_decay_by_part(loaded: LoadedModel) -> None:
    overrides = ("parts.lr.vision=1e-5", "optim.lr=1e-3", "optim.weight_decay=0.1")
    optimizer, _, _ = optimizer_for(loaded.model, *overrides)
    for group in optimizer.param_groups:
        assert group["lr"] == group["base_lr"] == (1e-5 if group["part"] == "vision" else 1e-3)
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] > 0}


def test_a_frozen_part_that_moved_stops_the_run(loaded: LoadedModel) -> None:
    optimizer, proof, _ = optimizer_for(loaded.model, "parts.train=['connector']")
    step(optimizer, loaded.model)
    proof.check()
    with torch.no_grad():
        next(iter(split_parts(loaded.model)["vision"].values())).view(-1)[0] += 1e-6
    with pytest.raises(FrozenPartMovedError, match=r"vision is frozen by parts\.train but moved by"):
        proof.check()
    with pytest.raises(FrozenPartMovedError):
        proof.check(updated=False)


def test_a_part_that_learns_but_did_not_move_stops_the_run(loaded: LoadedModel) -> None:
    _, proof, _ = optimizer_for(loaded.model, "parts.train=['connector','language']")
    with torch.no_grad():
        loaded.model.model.language_model.norm.weight.mul_(1.01)
    with pytest.raises(FrozenPartMovedError, match=r"connector is in parts\.train but did not move"):
        proof.check()
    assert proof.check(updated=False)["connector"] == 0.0


def test_the_change_is_relative_to_the_start(loaded: LoadedModel) -> None:
    _, proof, _ = optimizer_for(loaded.model)
    with torch.no_grad():
        for parameter in split_parts(loaded.model)["connector"].values():
            parameter.mul_(1.25)
    change = proof.change()
    assert change["connector"] == pytest.approx(0.25, rel=1e-5)
    assert change["vision"] == change["language"] == 0.0


def test_the_table_and_its_record_agree(loaded: LoadedModel) -> None:
    _, proof, _ = optimizer_for(loaded.model, "parts.train=['connector']")
    record = {row["part"]: row for row in proof.as_json()}
    assert record["connector"]["in_optimizer"] == record["connector"]["parameters"] > 0
    assert record["vision"]["in_optimizer"] == 0
    assert proof.table().row_count == 3


def test_image_tokens_are_known_and_banned(loaded: LoadedModel) -> None:
    tokens = loaded.chat.tokenizer.convert_ids_to_tokens(list(loaded.banned_ids))
    assert tuple(tokens) == FAMILIES["internvl"].image_tokens
    assert loaded.chat.eos_id in loaded.stop_ids
    assert not set(loaded.stop_ids) & set(loaded.banned_ids)
