"""Runs over a base in 4 or 8 bits: SFT and GRPO, a resume to the same bits, the export, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.nano import picture, save_nano
from helpers.plain_transformers import PlainTransformers
from helpers.ranks import on_ranks
from seethink.config import RecipeError, make_recipe
from seethink.core.errors import UserError
from seethink.dist.world import is_main
from seethink.models.load import load_model
from seethink.models.lora import quantize_base
from seethink.models.quantized import quantized_layers
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.start import train

pytest.importorskip("bitsandbytes")
LORA: dict[str, Any] = {"parts": ["vision", "language"], "rank": 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    save_nano(folder / "model")
    return folder


def table(home: Path, name: str, stage: str, base: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": name,
        "stage": stage,
        "model": str(home / "model"),
        "out": str(home / name),
        "data": {"train": "world:math:traces" if stage == "sft" else "world:math", "train_size": 24},
        "lora": LORA | {"base": base},
        "optim": {"lr": 1e-3},
        "reward": {"function": "helpers.nano:always_correct" if stage == "sft" else "helpers.nano:likes_e"},
        "checkpoint": {"every": 1, "keep": 9},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    if stage == "sft":
        made["data"]["val_size"] = 4
        made["sft"] = {"epochs": 1, "batch_size": 10, "val_every": 1}
    else:
        made["algorithm"] = {"steps": 2, "kl_beta": 0.01}
        made["rollout"] = {"prompts_per_step": 3, "group_size": 4, "max_new_tokens": 12}
    return made


def run(home: Path, name: str, stage: str, base: str, *words: str, resume: bool = False) -> Path:
    return train(make_recipe(table(home, name, stage, base), list(words)), resume=resume)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def interrupted(home: Path, name: str, stage: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends after its first checkpoint."""
    save = Checkpoints.save

    def then_fail(self: Checkpoints, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        if self.saved == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", then_fail)
        with pytest.raises(KeyboardInterrupt):
            run(home, name, stage, base)


@pytest.mark.parametrize(("stage", "base"), [("sft", "8bit"), ("grpo", "4bit")])
def test_a_run_trains_resumes_to_the_same_bits_and_exports(
    home: Path, stage: str, base: str, monkeypatch: pytest.MonkeyPatch, plain_transformers: PlainTransformers
) -> None:
    name = f"{stage}-{base}"
    last = run(home, name, stage, base)
    steps = metrics(home / name)
    assert len(steps) == (3 if stage == "sft" else 2)
    if stage == "grpo":
        # The decoder and the trainer compute with one base, and so does the reference before the first step.
        assert all(step["mismatch_kl/max"] < 1e-6 for step in steps)
        assert abs(steps[0]["loss/kl"]) < 1e-6 < abs(steps[1]["loss/kl"])
    interrupted(home, f"{name}-again", stage, base, monkeypatch)
    run(home, f"{name}-again", stage, base, resume=True)
    ends = [sorted((home / n / "checkpoints").iterdir())[-1] for n in (name, f"{name}-again")]
    for file in ("model.safetensors", "train_state/tensors.safetensors"):
        whole, resumed = (load_file(end / file) for end in ends)
        assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())
    exported = load_file(last / "model.safetensors")
    assert not [key for key in exported if "lora" in key or "base_layer" in key or "scale_" in key]
    picture(1).save(home / "one.png")
    found = plain_transformers.load(last, home / "one.png")
    assert found.missing_keys == found.unexpected_keys == []


def test_the_export_is_the_restored_base_and_the_product_of_its_adapters(home: Path) -> None:
    run(home, "exported", "grpo", "4bit", "algorithm.steps=1")
    end = sorted((home / "exported/checkpoints").iterdir())[-1]
    exported, state = load_model(str(end)).model.state_dict(), load_file(end / "train_state/tensors.safetensors")
    recipe = make_recipe(table(home, "exported", "grpo", "4bit"))
    model = load_model(str(home / "model")).model
    quantize_base(model, recipe.lora)
    layers = quantized_layers(model)
    assert layers
    for name, layer in layers.items():
        b, a = (state[f"lora/{name}.lora_{half}.default.weight"] for half in "BA")
        expected = layer.restored() + recipe.lora.alpha / recipe.lora.rank * b @ a
        assert torch.allclose(exported[f"{name}.weight"], expected, atol=1e-6)


def test_a_critic_learns_beside_it_and_saving_beside_training_writes_the_same(home: Path) -> None:
    words = ("algorithm.steps=1", "algorithm.kl_beta=0")
    for name, beside in (("ppo", "false"), ("ppo-beside", "true")):
        run(home, name, "ppo", "4bit", *words, f"checkpoint.asynchronous={beside}")
    ends = [sorted((home / name / "checkpoints").iterdir())[-1] for name in ("ppo", "ppo-beside")]
    for file in ("model.safetensors", "train_state/tensors.safetensors"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes()
    assert any(name.startswith("critic/") for name in load_file(ends[0] / "train_state/tensors.safetensors"))


def _step_of_ranks(home: Path, name: str, shard: str) -> None:
    made = table(home, name, "grpo", "4bit")
    recipe = make_recipe(made, ["algorithm.steps=1", f"cluster.shard={shard}"])
    if shard == "none":
        train(recipe)
        return
    with pytest.raises(UserError, match="divides weights in full; set shard='none'"):
        train(recipe)
    assert is_main() or not (home / name / "checkpoints").exists()


@pytest.mark.slow
def test_two_ranks_with_whole_weights_take_the_step_of_one(home: Path) -> None:
    run(home, "one", "grpo", "4bit", "algorithm.steps=1")
    on_ranks(2, _step_of_ranks, home, home, "two", "none")
    ends = [sorted((home / name / "checkpoints").iterdir())[-1] for name in ("one", "two")]
    one, two = (load_file(end / "train_state/tensors.safetensors") for end in ends)
    for key in one:
        if key.startswith("lora/"):
            assert torch.allclose(one[key], two[key], atol=2e-5)
    on_ranks(2, _step_of_ranks, home, home, "sharded", "zero2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lora.parts=[]"], "needs lora.parts: weights in few bits cannot learn"),
        (["rollout.engine=vllm"], "whose servers are sent merged weights in full"),
        (["cluster.trainers=2"], "cluster.shard='zero2', which divides weights in full; set shard='none'"),
        (["cluster.trainers=2", "cluster.shard=zero3"], "cluster.shard='zero3'"),
        (
            ["cluster.trainers=2", "cluster.shard=none", "cluster.sequence_parallel=2", "optim.shared_prompt=false"],
            "does not go with cluster.sequence_parallel",
        ),
        (["lora.base=2bit"], "lora.base: Input should be 'float32', '8bit' or '4bit'"),
    ],
)
def test_what_cannot_go_with_it_is_refused_by_the_recipe(home: Path, words: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        make_recipe(table(home, "no", "grpo", "4bit"), words)
    assert said in str(refused.value)


def test_another_base_is_refused_where_a_run_goes_on(home: Path) -> None:
    run(home, "changed", "grpo", "8bit", "algorithm.steps=1")
    with pytest.raises(UserError, match=r"lora\.base"):
        run(home, "changed", "grpo", "4bit", resume=True)
