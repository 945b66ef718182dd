"""Checkpoints: whole or not there, the newest kept, everything restored to the last bit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.nano import nano_recipe
from seethink.models.load import LoadedModel, load_model
from seethink.models.trainable import param_groups
from seethink.runs.checkpoint import (
    Retention,
    clear_leftovers,
    load_tensors,
    newest_checkpoint,
    save_checkpoint,
    stored_weights,
)
from seethink.runs.optimizer_state import CheckpointError, optimizer_tensors, restore_optimizer
from seethink.runs.rng import restore_rng, rng_state, seed_everything


@pytest.fixture
def loaded(random_nano: Path) -> LoadedModel:
    return load_model(str(random_nano))


def save(folder: Path, step: int, loaded: LoadedModel, keep: int = 2, **tensors: torch.Tensor) -> Path:
    return save_checkpoint(folder, step, loaded, tensors, {"position": step}, {"stage": "sft"}, keep=keep)


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back(tmp_path: Path, loaded: LoadedModel) -> None:
    path = save(tmp_path, 3, loaded, x=torch.arange(3))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.path, newest.step, newest.state["position"]) == (path, 3, 3)
    assert torch.equal(load_tensors(newest)["x"], torch.arange(3))
    assert json.loads((path / "seethink.json").read_text()) == {"stage": "sft"}


def test_none_yet(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None


def test_the_newest_are_kept(tmp_path: Path, loaded: LoadedModel) -> None:
    for step in (1, 2, 10, 11):
        save(tmp_path, step, loaded, keep=2)
    assert steps(tmp_path) == ["step_000010", "step_000011"]
    save(tmp_path, 12, loaded, keep=1)
    assert steps(tmp_path) == ["step_000012"]


@pytest.mark.parametrize(("mode", "best"), [("max", [3, 2]), ("min", [1, 4])])
def test_the_best_are_kept_besides(tmp_path: Path, loaded: LoadedModel, mode: Any, best: list[int]) -> None:
    """The newest and the two best by their score; one without a score is never among the best."""
    for step, score in enumerate([0.1, 0.7, 0.8, 0.2, None, 0.5], start=1):
        retention = Retention(1, 2, mode)
        save_checkpoint(tmp_path, step, loaded, {}, {"score": score}, {}, keep=retention)
    assert steps(tmp_path) == [f"step_{step:06d}" for step in sorted([*best, 6])]


def test_what_a_kill_leaves_half_done_is_undone(tmp_path: Path, loaded: LoadedModel) -> None:
    """An unfinished folder goes; a checkpoint that was moved aside for its successor comes back."""
    save(tmp_path, 1, loaded, x=torch.ones(1))
    os.replace(tmp_path / "step_000001", tmp_path / ".step_000001.old")
    (tmp_path / ".step_000001.tmp").mkdir()
    clear_leftovers(tmp_path)
    assert steps(tmp_path) == ["step_000001"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1


def test_no_other_file_is_read(tmp_path: Path, loaded: LoadedModel) -> None:
    """Safetensors and JSON only; a pickle beside them is neither written nor asked for."""
    path = save(tmp_path, 1, loaded, x=torch.ones(1))
    listed = set(json.loads((path / "manifest.json").read_text())["files"])
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert found == listed | {"manifest.json"}
    assert {Path(name).suffix for name in found} <= {".safetensors", ".json", ".jinja", ".txt", ".model"}


def test_random_states_come_back() -> None:
    import random

    import numpy as np

    def draws() -> tuple[Any, ...]:
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(2).tolist()

    seed_everything(3)
    draws()
    tensors, about = rng_state()
    about = json.loads(json.dumps(about))
    expected = draws()
    draws()
    restore_rng(tensors, about)
    assert draws() == expected
    seed_everything(3)
    draws()
    assert draws() == expected


def failing(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "break_at",
    [
        lambda patch: patch.setattr(os, "replace", failing),
        lambda patch: patch.setattr("seethink.runs.checkpoint.save_file", failing),
        lambda patch: patch.setattr("seethink.runs.checkpoint.write_manifest", failing),
        lambda patch: patch.setattr("seethink.runs.checkpoint.export_model", failing),
    ],
    ids=["before the rename", "while writing tensors", "before the sync", "while writing weights"],
)
def test_a_crash_while_saving_leaves_the_old_one(
    tmp_path: Path, loaded: LoadedModel, break_at: Callable[[pytest.MonkeyPatch], None]
) -> None:
    save(tmp_path, 1, loaded, x=torch.ones(2))
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 2, loaded, keep=1)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1
    assert torch.equal(load_tensors(newest)["x"], torch.ones(2))
    assert load_model(str(newest.path)).model.num_parameters() > 0
    save(tmp_path, 2, loaded, keep=1)
    assert steps(tmp_path) == ["step_000002"], "what the crash left is cleared away"


def test_saving_a_step_again_replaces_it(tmp_path: Path, loaded: LoadedModel) -> None:
    save(tmp_path, 1, loaded, x=torch.zeros(1))
    save(tmp_path, 1, loaded, x=torch.ones(1))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert load_tensors(newest)["x"].item() == 1


def trained(loaded: LoadedModel, updates: int, *overrides: str) -> torch.optim.Optimizer:
    recipe = nano_recipe("x", *overrides)
    optimizer = torch.optim.AdamW(
        param_groups(loaded.model, recipe.parts, recipe.lora, recipe.optim), lr=1e-3, fused=True
    )
    continue_training(loaded, optimizer, updates, seed=0)
    return optimizer


def continue_training(loaded: LoadedModel, optimizer: torch.optim.Optimizer, updates: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_training_goes_on_to_the_last_bit(tmp_path: Path, random_nano: Path, loaded: LoadedModel) -> None:
    optimizer = trained(loaded, 3)
    save(tmp_path, 3, loaded, **optimizer_tensors("policy", optimizer))
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None

    again = load_model(str(random_nano))
    resumed = trained(again, 0)
    again.model.load_state_dict(stored_weights(again.model, checkpoint, load_tensors(checkpoint)))
    restore_optimizer("policy", resumed, load_tensors(checkpoint))
    saved, restored = optimizer_tensors("policy", optimizer), optimizer_tensors("policy", resumed)
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[key], restored[key]) for key in saved)

    for model, opt in ((loaded, optimizer), (again, resumed)):
        continue_training(model, opt, 2, seed=1)
    for (name, one), (_, two) in zip(loaded.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(one, two), name


def test_states_of_several_optimizers_do_not_mix(loaded: LoadedModel) -> None:
    heads = [torch.nn.Linear(2, 2) for _ in range(2)]
    optimizers = [torch.optim.AdamW(head.parameters()) for head in heads]
    for number, (head, optimizer) in enumerate(zip(heads, optimizers, strict=True)):
        for parameter in head.parameters():
            parameter.grad = torch.full_like(parameter, 1.0 + number)
        optimizer.step()
    tensors = optimizer_tensors("a", optimizers[0]) | optimizer_tensors("ab", optimizers[1])
    for name, head, optimizer in zip(("a", "ab"), heads, optimizers, strict=True):
        fresh = torch.optim.AdamW(head.parameters())
        restore_optimizer(name, fresh, tensors)
        assert torch.equal(fresh.state[head.weight]["exp_avg"], optimizer.state[head.weight]["exp_avg"])


def test_another_recipes_optimizer_is_refused(random_nano: Path, loaded: LoadedModel) -> None:
    whole = optimizer_tensors("policy", trained(loaded, 1))
    other = trained(load_model(str(random_nano)), 0, "parts.train=['connector']")
    with pytest.raises(CheckpointError, match="fits no parameter"):
        restore_optimizer("policy", other, whole)


def test_parameters_without_a_gradient_so_far_are_no_obstacle(random_nano: Path, loaded: LoadedModel) -> None:
    """A run on text alone has no state for vision and connector, and must be resumable all the same."""
    recipe = nano_recipe("x")
    optimizer = torch.optim.AdamW(param_groups(loaded.model, recipe.parts, recipe.lora, recipe.optim), lr=1e-3)
    for name, parameter in loaded.model.named_parameters():
        parameter.grad = torch.ones_like(parameter) if "language_model" in name else None
    optimizer.step()
    resumed = trained(load_model(str(random_nano)), 0)
    restore_optimizer("policy", resumed, optimizer_tensors("policy", optimizer))
    assert optimizer_tensors("policy", resumed).keys() == optimizer_tensors("policy", optimizer).keys()
