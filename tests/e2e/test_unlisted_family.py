"""A family that the table does not list (VipLLaVA) trains: its parts are found, or stated by the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from helpers.families import build_config, picture, save_family
from helpers.family_processors import WORDS, build_tokenizer
from seethink.cli.main import app
from seethink.config import make_recipe
from seethink.models.parts import PartsError
from seethink.train.start import train as train_stage

pytestmark = pytest.mark.slow
MODULES = {
    "vision": ["model.vision_*"],
    "connector": ["model.multi_modal_projector"],
    "language": ["model.language_model", "lm_head"],
    "image_tokens": ["<image>"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VipLLaVA joins several vision layers before its connector; its processor is LLaVA's."""
    from transformers import VipLlavaConfig, VipLlavaForConditionalGeneration

    folder = tmp_path_factory.mktemp("home")
    save_family("llava", folder / "model")
    tokenizer = build_tokenizer(WORDS["llava"])
    like = build_config("llava", tokenizer).to_dict()
    known = {k: like[k] for k in ("vision_config", "text_config", "image_token_index", "image_seq_length")}
    torch.manual_seed(0)
    config = VipLlavaConfig(**known, vision_feature_layers=[-2, -1], tie_word_embeddings=False)
    model = VipLlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder / "model")
    lines = []
    for i in range(10):
        picture(i, (40 + 8 * (i % 3), 40)).save(folder / f"{i}.png")
        row = {"prompt": f"what is {i}", "images": [f"{i}.png"], "answer": str(i), "response": f"<think>a</think>{i}"}
        lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def run(home: Path, name: str, stage: str, **parts: Any) -> Path:
    table: dict[str, Any] = {
        "name": name,
        "stage": stage,
        "model": str(home / "model"),
        "out": str(home / name),
        "data": {"train": str(home / "train.jsonl"), "val_size": 2},
        "optim": {"lr": 1e-2},
        "parts": parts,
        "reward": {"function": "helpers.nano:always_correct" if stage == "sft" else "helpers.nano:likes_e"},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    if stage == "sft":
        table["sft"] = {"epochs": 1, "batch_size": 4, "val_every": 1}
    else:
        table["algorithm"] = {"steps": 2}
        table["rollout"] = {"prompts_per_step": 3, "group_size": 3, "max_new_tokens": 6}
    return train_stage(make_recipe(table))


def test_its_parts_are_found_and_it_trains(home: Path) -> None:
    """Connector-only SFT moves the connector alone, GRPO every part, on policy."""
    run(home, "found-connector", "sft", train=["connector"])
    start = load_file(home / "model" / "model.safetensors")
    end = load_file(home / "found-connector" / "best" / "model.safetensors")
    moved = {name for name in end if not torch.equal(start[name], end[name])}
    assert moved
    assert all("multi_modal_projector" in name for name in moved)
    last = run(home, "found", "grpo")
    steps = [json.loads(line) for line in (home / "found" / "metrics.jsonl").read_text().splitlines()]
    assert all(step["mismatch_kl/max"] < 1e-6 for step in steps)
    end = load_file(last / "model.safetensors")
    parts = {"vision_tower", "multi_modal_projector", "language_model"}
    assert all(any(p in n and not torch.equal(start[n], end[n]) for n in end) for p in parts)


def test_the_command_shows_what_was_found(home: Path) -> None:
    shown = CliRunner().invoke(app, ["parts", str(home / "model")]).output
    assert "connector: model.multi_modal_projector (VipLlavaMultiModalProjector)" in " ".join(shown.split())
    assert 'vision = ["model.vision_tower"]' in shown
    found = json.loads(CliRunner().invoke(app, ["parts", str(home / "model"), "--json"]).output)
    assert [line.split(":")[0] for line in found["found"]] == ["vision", "connector", "language"]


def test_modules_that_miss_a_parameter_stop_the_run(home: Path) -> None:
    with pytest.raises(PartsError, match=r"'lm_head\.weight' belongs to no part"):
        run(home, "missing", "sft", modules={**MODULES, "language": ["model.language_model"]})


def test_connector_tuning_and_grpo(home: Path) -> None:
    run(home, "connector", "sft", modules=MODULES, train=["connector"])
    start = load_file(home / "model" / "model.safetensors")
    end = load_file(home / "connector" / "best" / "model.safetensors")
    moved = {name for name in end if not torch.equal(start[name], end[name])}
    assert moved
    assert all("multi_modal_projector" in name for name in moved)
    last = run(home, "grpo", "grpo", modules=MODULES)
    steps = [json.loads(line) for line in (home / "grpo" / "metrics.jsonl").read_text().splitlines()]
    assert all(step["mismatch_kl/max"] < 1e-6 for step in steps)
    end = load_file(last / "model.safetensors")
    parts = {"vision_tower", "multi_modal_projector", "language_model"}
    assert all(any(p in n and not torch.equal(start[n], end[n]) for n in end) for p in parts)
