"""AdamW's moments in 8 bits and in main memory: updates, what they save, checkpoints, and the library they need."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.moments import policy_of, train, weights
from helpers.nano import load_nano, nano_recipe, relative_error
from seethink.core.errors import UserError
from seethink.doctor.check import Report, Status
from seethink.doctor.memory import Load, estimate
from seethink.doctor.recipe import check_recipe
from seethink.models.shares import whole
from seethink.runs.moments import block_size, moments_bytes
from seethink.runs.optimizer_state import (
    CheckpointError,
    optimizer_bytes,
    optimizer_tensors,
    restore_optimizer,
)
from seethink.train import optim
from seethink.train.policy import Policy

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.02
"""Of the movement of all weights over four updates, 8-bit against float32, in the L2 norm."""


def moved(model: Path, states: str, *words: str) -> torch.Tensor:
    policy = policy_of(model, states, *words)
    before = weights(policy)
    train(policy, 4)
    return weights(policy) - before


def test_blocks_lie_within_rows() -> None:
    sizes = {(8960, 1536): 256, (1152, 1152): 128, (4096, 64): 64, (512, 3420): None, (8, 64): None, (100_000,): None}
    assert {shape: block_size(torch.Size(shape)) for shape in sizes} == sizes
    assert moments_bytes(torch.Size((100, 512)), "8bit") == 2 * (51_200 + 4 * 200)
    assert moments_bytes(torch.Size((100, 512)), "cpu") == moments_bytes(torch.Size((100, 500)), "8bit") + 8 * 1200


def test_without_the_library_one_line_names_it(monkeypatch: pytest.MonkeyPatch, random_nano: Path) -> None:
    find = optim.importlib.util.find_spec
    monkeypatch.setattr(optim.importlib.util, "find_spec", lambda name: None if name == "torchao" else find(name))
    with pytest.raises(UserError, match=r"pip install 'seethink\[torchao\]'") as refused:
        policy_of(random_nano, "8bit")
    report = Report()
    check_recipe(report, ROOT / "recipes" / "nano-grpo.toml", ["optim.states=8bit"], None)
    assert [check.found for check in report.checks if check.status is Status.FAIL] == [str(refused.value)]


@pytest.mark.parametrize("words", [(), ('parts.train=["connector"]',)], ids=["all parts", "connector alone"])
def test_moments_in_main_memory_change_no_bit(random_nano: Path, words: tuple[str, ...]) -> None:
    assert torch.equal(moved(random_nano, "cpu", *words), moved(random_nano, "float32", *words))


def test_a_recipe_states_what_it_needs(random_nano: Path) -> None:
    loaded, load = load_nano(random_nano), Load(60, 50.0, 16.0, 32, 4.0)
    plain, small, away = (
        estimate(loaded.model, nano_recipe(random_nano, f"optim.states={states}"), load)
        for states in ("float32", "8bit", "cpu")
    )
    for found, states in ((plain, "float32"), (small, "8bit")):
        parameters = list(loaded.model.parameters())
        stated = sum(part.optimizer for part in found.parts.values())
        assert stated == sum(moments_bytes(p.shape, states) + 4 for p in parameters)  # type: ignore[arg-type]
    assert plain.fixed - small.fixed > 0.65 * sum(part.optimizer for part in plain.parts.values())
    assert plain.fixed - away.fixed == away.offloaded == away.host - plain.host
    assert plain.step == away.step


@pytest.mark.parametrize("states", ["8bit", "cpu"])
def test_an_interrupted_run_goes_on_to_the_last_bit(random_nano: Path, tmp_path: Path, states: str) -> None:
    require_torchao(states)
    ours, again = policy_of(random_nano, states), policy_of(random_nano, states)
    train(ours, 2)
    save_file(optimizer_tensors("policy", ours.optimizer), tmp_path / "state.safetensors")
    again.model.load_state_dict(ours.model.state_dict())
    restore_optimizer("policy", again.optimizer, load_file(tmp_path / "state.safetensors"))
    again.steps_done = ours.steps_done
    for policy in (ours, again):
        train(policy, 2, seed=1)
    assert torch.equal(weights(ours), weights(again))
    assert_same_state(ours, again)
    stored = sum(t.nbytes for name, t in optimizer_tensors("policy", ours.optimizer).items() if "step" not in name)
    assert stored == optimizer_bytes(ours.optimizer)


def assert_same_state(one: Policy, other: Policy) -> None:
    mine, theirs = (optimizer_tensors("policy", policy.optimizer) for policy in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(whole(mine[name]), whole(theirs[name])) for name in mine)


def require_torchao(states: str = "8bit") -> None:
    if states == "8bit":
        pytest.importorskip("torchao")


@pytest.mark.parametrize("words", [(), ('parts.train=["connector"]',)], ids=["all parts", "connector alone"])
def test_eight_bits_follow_float32(random_nano: Path, words: tuple[str, ...]) -> None:
    require_torchao()
    plain = moved(random_nano, "float32", *words)
    error = relative_error(moved(random_nano, "8bit", *words), plain)
    assert 0 < error < TOLERANCE, error


def test_float32_moments_are_rounded_to_8_bits_and_not_back(random_nano: Path) -> None:
    """A run that ran out of memory goes on with smaller states; the other way is refused."""
    require_torchao()
    plain, small = policy_of(random_nano, "float32"), policy_of(random_nano, "8bit")
    train(plain, 2)
    restore_optimizer("policy", small.optimizer, optimizer_tensors("policy", plain.optimizer))
    name = next(name for name, p in small.model.named_parameters() if block_size(p.shape))
    exact, rounded = (p.optimizer.state[p.model.get_parameter(name)]["exp_avg"] for p in (plain, small))
    assert 0 < relative_error(rounded.dequantize(), exact) < 0.03
    eight_bits = optimizer_tensors("policy", small.optimizer)
    for states in ("float32", "cpu"):
        with pytest.raises(CheckpointError, match=r"go on with optim\.states=8bit"):
            restore_optimizer("policy", policy_of(random_nano, states).optimizer, eight_bits)
    away = policy_of(random_nano, "cpu")
    restore_optimizer("policy", away.optimizer, optimizer_tensors("policy", plain.optimizer))
    assert_same_state(away, plain)
