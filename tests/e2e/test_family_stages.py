"""Every family of the table trains, and so do two whose layers keep states: SFT, GRPO, connector-only, LoRA, resume and
export, on files like a user's.

The prompts have one image, two of different sizes, or none, mixed in every batch.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.families import FAMILIES, NEWER_FAMILIES, ONE_IMAGE_FAMILIES, STATEFUL_FAMILIES, picture, save_family
from helpers.plain_transformers import PlainTransformers
from seethink.config import make_recipe
from seethink.models.load import load_model
from seethink.models.parts import split_parts
from seethink.train.hooks.checkpoints import Checkpoints
from seethink.train.start import train as train_stage

pytestmark = pytest.mark.slow
SIZES = ((40, 40), (80, 30), (30, 64))
WORDS = ["what", "is", "the", "sum", "of", "red", "and", "blue", "digits", "in", "this", "picture"]


@pytest.fixture(scope="module", params=[*FAMILIES, *STATEFUL_FAMILIES])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `train.jsonl`, its images beside it."""
    folder = tmp_path_factory.mktemp("home")
    save_family(request.param, folder / "model")
    several = 1 if request.param in ONE_IMAGE_FAMILIES else 2
    lines = []
    for i in range(12):
        names = [f"{i}-{k}.png" for k in range((1, 0, several)[i % 3])]
        for k, name in enumerate(names):
            picture(10 * i + k, SIZES[(i + k) % 3]).save(folder / name)
        question = " ".join(WORDS[: 3 + i % 5])
        row = {"prompt": question, "images": names, "answer": str(i), "response": f"<think>{question}</think>{i}"}
        lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def run(home: Path, name: str, stage: str, *overrides: str, resume: bool = False) -> Path:
    table: dict[str, Any] = {
        "name": name,
        "stage": stage,
        "model": str(home / "model"),
        "out": str(home / name),
        "data": {"train": str(home / "train.jsonl"), "val_size": 3},
        "optim": {"lr": 1e-3},
        "parts": {"lr": {"vision": 1e-4}},
        "reward": {"function": "helpers.nano:always_correct" if stage == "sft" else "helpers.nano:likes_e"},
        "checkpoint": {"every": 1, "keep": 9},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
    }
    if stage == "sft":
        table["sft"] = {"epochs": 1, "batch_size": 3, "val_every": 1}
    else:
        table["algorithm"] = {"steps": 2}
        # Llama 4 draws equal rewards for all pictures in groups of three.
        size = 8 if "Llama4" in (home / "model" / "config.json").read_text() else 3
        table["rollout"] = {"prompts_per_step": 4, "group_size": size, "max_new_tokens": 8}
    return train_stage(make_recipe(table, list(overrides)), resume=resume)


def metrics(home: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (home / name / "metrics.jsonl").read_text().splitlines()]


def moved(home: Path, checkpoint: Path) -> dict[str, bool]:
    """Which parts differ from the start in the exported weights, to the last bit."""
    start, end = load_model(str(home / "model")).model, load_model(str(checkpoint)).model
    parts = split_parts(end)
    before = dict(start.named_parameters())
    return {part: any(not torch.equal(p, before[n]) for n, p in named.items()) for part, named in parts.items()}


def test_sft_moves_every_part(home: Path) -> None:
    run(home, "sft", "sft")
    steps = metrics(home, "sft")
    assert len(steps) == 3
    assert all(math.isfinite(s["loss/total"]) and math.isfinite(s["loss/val"]) for s in steps)
    assert all(steps[0][f"optim/grad_norm_{part}"] > 0 for part in ("vision", "connector", "language"))
    assert steps[0]["optim/lr_vision"] == 1e-4
    assert steps[0]["optim/lr_connector"] == steps[0]["optim/lr_language"] == 1e-3
    assert moved(home, home / "sft/checkpoints/step_000003") == dict.fromkeys(("vision", "connector", "language"), True)


def test_connector_tuning_leaves_the_rest_to_the_last_bit(home: Path) -> None:
    run(home, "connector", "sft", 'parts.train=["connector"]')
    changed = moved(home, home / "connector/checkpoints/step_000003")
    assert changed == {"vision": False, "connector": True, "language": False}
    assert metrics(home, "connector")[0]["optim/grad_norm_connector"] > 0
    rows = {row["part"]: row for row in json.loads((home / "connector/parts.json").read_text())["parts"]}
    assert rows["connector"]["in_optimizer"] == rows["connector"]["parameters"] > 0
    assert rows["vision"]["in_optimizer"] == rows["language"]["in_optimizer"] == 0


def test_grpo_is_on_policy_and_resumes(home: Path) -> None:
    last = run(home, "grpo", "grpo")
    steps = metrics(home, "grpo")
    assert all(step["mismatch_kl/max"] < 1e-6 for step in steps)
    assert steps[0]["optim/grad_norm"] > 0
    assert moved(home, last) == dict.fromkeys(("vision", "connector", "language"), True)
    _resumes(home, "grpo", "grpo")


def _resumes(home: Path, name: str, stage: str, *overrides: str) -> None:
    """Stopped after step 1 and resumed, the run ends with the same weights."""
    again = f"{name}-again"

    def stop(self: Checkpoints, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        if self.saved == 1:
            raise KeyboardInterrupt

    save = Checkpoints.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run(home, again, stage, *overrides)
    run(home, again, stage, *overrides, resume=True)
    ends = [load_file(sorted((home / n / "checkpoints").iterdir())[-1] / "model.safetensors") for n in (name, again)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


LORA = ('lora.parts=["language"]', "lora.rank=4", 'parts.train=["connector", "language"]')


def test_lora_trains_adapters_and_exports_them_merged(home: Path) -> None:
    last = run(home, "lora", "grpo", *LORA)
    rows = {row["part"]: row for row in json.loads((home / "lora/parts.json").read_text())["parts"]}
    assert 0 < rows["language"]["in_optimizer"] == rows["language"]["adapters"] < rows["language"]["parameters"]
    assert rows["connector"]["adapters"] == 0 < rows["connector"]["in_optimizer"]
    assert moved(home, last) == {"vision": False, "connector": True, "language": True}
    assert not [name for name in load_file(last / "model.safetensors") if "lora" in name or "base_layer" in name]
    assert all(step["mismatch_kl/max"] < 1e-6 for step in metrics(home, "lora"))
    if load_model(str(last)).model.config.model_type not in NEWER_FAMILIES:
        _resumes(home, "lora", "grpo", *LORA)


FEW_GROUPS = ("algorithm.steps=1", "rollout.group_size=8")
"""One step, with groups so large that no family draws equal rewards alone."""


def test_bfloat16_with_recomputation(home: Path) -> None:
    run(home, "bf16", "grpo", "dtype=bfloat16", "optim.gradient_checkpointing=true", *FEW_GROUPS)
    step = metrics(home, "bf16")[0]
    assert math.isfinite(step["loss/total"])
    assert step["optim/grad_norm"] > 0


def test_plain_transformers_loads_the_export(home: Path, plain_transformers: PlainTransformers) -> None:
    """In a process that does not import seethink (but for its torchvision shim, needed only on a CPU build)."""
    checkpoint = next(iter(sorted((home / "sft" / "checkpoints").iterdir())))
    found = plain_transformers.load(checkpoint, home / "0-0.png")
    assert found.missing_keys == found.unexpected_keys == []
    assert found.returned_tokens > 0
