"""What the doctor says of several processes: the published models' shapes, on the meta device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seethink.config import load_recipe
from seethink.doctor.check import Status
from seethink.doctor.memory import Load, estimate
from seethink.doctor.run import diagnose
from seethink.models import units as units_module
from seethink.models.describe import meta_model
from seethink.models.units import unit_sizes, units

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from shapes import SHAPES, save_shape  # noqa: E402

BILLIONS = {"internvl3-8b": 7.94, "internvl3-38b": 38.39, "qwen2.5-vl-7b": 8.29, "qwen3-vl-8b": 8.77}
LOAD = Load(384, 384, 256, 8192, 4.0)


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_for_every_model_fits_its_mesh(name: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / f"{name}-grpo.toml"
    trainers = load_recipe(recipe).cluster.trainers
    shape = save_shape(name, tmp_path)
    report = diagnose(recipe, [f"model={shape}"], gpus=f"{trainers}x80", shapes_only=True)
    rows = report.facts["parts"]
    assert sum(row["parameters"] for row in rows) / 1e9 == pytest.approx(BILLIONS[name], abs=0.01)
    needed = {check.name: check for check in report.checks}
    assert needed["fits"].status is Status.PASS, needed["fits"].found
    assert "share one copy of the weights" in needed["estimate"].found


def test_more_processes_layers_at_a_time_and_smaller_states_need_less(tmp_path: Path) -> None:
    shape = save_shape("internvl3-8b", tmp_path)
    model = meta_model(str(shape))
    needed = {}
    meshes = ((1, "none"), (8, "none"), (8, "zero2"), (8, "zero3"), (16, "zero3"))
    for trainers, shard, states in [
        *((*mesh, "float32") for mesh in meshes),
        (16, "zero3", "8bit"),
        (16, "zero3", "cpu"),
    ]:
        words = [f"model={shape}", f"cluster.trainers={trainers}", f"cluster.shard={shard}", f"optim.states={states}"]
        found = estimate(model, load_recipe(ROOT / "recipes" / "internvl3-8b-grpo.toml", words), LOAD)
        needed[trainers, shard, states] = found.fixed + found.training
    assert needed[1, "none", "float32"] == needed[8, "none", "float32"]
    assert list(needed.values())[1:] == sorted(list(needed.values())[1:], reverse=True)


def test_two_copies_need_what_half_the_processes_need(tmp_path: Path) -> None:
    shape = save_shape("qwen3-vl-8b", tmp_path)
    model, recipe = meta_model(str(shape)), ROOT / "recipes" / "qwen3-vl-8b-grpo.toml"
    copies = estimate(model, load_recipe(recipe, ["cluster.trainers=8", "cluster.replicas=2"]), LOAD)
    assert copies == estimate(model, load_recipe(recipe, ["cluster.trainers=4"]), LOAD)


def test_units_hold_every_weight_once(tmp_path: Path) -> None:
    """28 layers, connector and encoder of the 8B model; of the 38B model 64 layers and 45 blocks besides."""
    small, large = (meta_model(str(save_shape(name, tmp_path))) for name in ("internvl3-8b", "internvl3-38b"))
    assert len(units(small)) == 28 + 2
    assert len(units(large)) == 64 + 45 + 2
    for model in (small, large):
        head = model.get_output_embeddings().weight.numel() + model.get_input_embeddings().weight.numel()
        norm = model.config.text_config.hidden_size
        assert sum(unit_sizes(model)) + head + norm == sum(p.numel() for p in model.parameters())


def test_a_large_encoder_is_gathered_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = meta_model(str(save_shape("internvl3-8b", tmp_path)))
    monkeypatch.setattr(units_module, "LARGE_ENCODER", 1)
    assert len(units(model)) == 28 + 24 + 2


def test_processes_that_share_sequences_keep_less_of_them(tmp_path: Path) -> None:
    shape = save_shape("internvl3-8b", tmp_path)
    model, recipe = meta_model(str(shape)), ROOT / "recipes" / "internvl3-8b-grpo.toml"
    words = ["cluster.trainers=8", "optim.shared_prompt=false"]
    alone, shared = (
        estimate(model, load_recipe(recipe, [*words, f"cluster.sequence_parallel={number}"]), LOAD) for number in (1, 4)
    )
    assert shared.parts["language"].activations == pytest.approx(alone.parts["language"].activations / 4, rel=1e-3)
    assert shared.parts["vision"] == alone.parts["vision"]
