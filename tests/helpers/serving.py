"""Checkpoints as seethink writes them, the tokens of its own decoder, and one vLLM process that serves them all."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.families import FAMILIES, ONE_IMAGE_FAMILIES, SLIDING_WINDOW, picture, save_family
from seethink.config import make_recipe
from seethink.core.types import Completion, Prompt, Sample
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.forward import output_head
from seethink.models.load import LoadedModel, export_model, load_model
from seethink.train.start import train as train_stage

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
SCRIPT = ROOT / "tests" / "serving" / "serve.py"
TIMEOUT_S = 1800
NEW_TOKENS = 12
SQUARE, WIDE, TALL = (40, 40), (80, 30), (30, 64)
CONFIG: dict[str, dict[str, Any]] = {"gemma4": {"use_bidirectional_attention": None}}
"""Of a text model, in the export that both sides read: Gemma 4's smaller models have no image tokens that see each
other both ways, which vLLM's attention on a CPU cannot do."""
WINDOWS = {"cohere2_vision": {"text_config": {"sliding_window": SLIDING_WINDOW - 1}}}
"""vLLM's sliding window for Cohere 2 is one token wider than transformers': it says so where it adds the one."""


class ServingError(Exception):
    """vLLM refused a checkpoint or a prompt; the message is vLLM's."""


@dataclass(frozen=True, slots=True)
class Case:
    """A checkpoint, and what seethink generates from it."""

    folder: Path
    prompts: list[Prompt]
    completions: list[Completion]
    job: dict[str, Any]
    """The request to `tests/serving/serve.py`."""


def make_cases(home: Path) -> dict[str, Case]:
    """An export of every family, the packaged nano model, a trained checkpoint, and one with merged adapters."""
    folders = {family: exported(save_family(family, home / family), home / f"{family}-export") for family in FAMILIES}
    folders["nano"] = exported("nano", home / "nano-export")
    folders["trained"] = trained(home, home / "llava")
    lora = {"lora": {"parts": ["vision", "language"], "rank": 4}}
    folders["lora"] = trained(home, home / "qwen2_5_vl", name="lora", **lora)
    return {name: make_case(name, folder, home / f"{name}-pictures") for name, folder in folders.items()}


def exported(source: Path | str, folder: Path) -> Path:
    loaded = load_model(str(source))
    export_model(loaded.model, loaded.chat, folder, {"source": str(source)})
    if changes := CONFIG.get(loaded.model.config.model_type):
        config = json.loads((folder / "config.json").read_text())
        config["text_config"] |= changes
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def trained(home: Path, model: Path, name: str = "trained", **sections: Any) -> Path:
    """Train every part with two steps of GRPO on world items; returns the last checkpoint."""
    table = {
        "name": name,
        "stage": "grpo",
        "model": str(model),
        "out": str(home / f"{name}-run"),
        "data": {"train": "world:math", "train_size": 6},
        "rollout": {"prompts_per_step": 3, "group_size": 3, "max_new_tokens": 8},
        "algorithm": {"steps": 2},
        "optim": {"lr": 1e-2},
        "reward": {"function": "helpers.nano:likes_e"},
        "blindness": {"every": 0},
        "log": {"tensorboard": False},
        **sections,
    }
    return train_stage(make_recipe(table))


def make_case(name: str, folder: Path, pictures: Path) -> Case:
    loaded = load_model(str(folder))
    prompts = [loaded.chat.prompt(sample) for sample in make_samples(loaded)]
    groups = InProcessGenerator(loaded).generate(prompts, 1, Sampling(NEW_TOKENS, 0.0), (0,))
    vocabulary = output_head(loaded.model).weight.shape[0]
    job = {
        "name": name,
        "folder": str(folder),
        "stop_ids": list(loaded.stop_ids),
        "allowed_ids": [i for i in range(vocabulary) if i not in loaded.banned_ids],
        "max_new_tokens": NEW_TOKENS,
        "overrides": WINDOWS.get(name, {}),
        "prompts": [_written(loaded, prompt, pictures) for prompt in prompts],
    }
    return Case(folder, prompts, [completion for (completion,) in groups], job)


def make_samples(loaded: LoadedModel) -> list[Sample]:
    """The same words with two different pictures, words alone, a tall picture, and two pictures of different shape."""
    shapes = [(SQUARE,), (SQUARE,), (), (TALL,), (WIDE, SQUARE)]
    if loaded.model.config.model_type in ONE_IMAGE_FAMILIES:
        shapes[-1] = (WIDE,)
    words = ("what is the sum", "what is the sum", "two plus three", "what", "what is the largest red digit")
    return [
        Sample(f"s{i}", question, tuple(picture(10 * i + k, size) for k, size in enumerate(sizes)), answer="1")
        for i, (sizes, question) in enumerate(zip(shapes, words, strict=True))
    ]


def _written(loaded: LoadedModel, prompt: Prompt, folder: Path) -> dict[str, Any]:
    """The text of the chat template and the pictures, written as files."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{prompt.sample.id}-{k}.png" for k in range(len(prompt.sample.images))]
    for image, file in zip(prompt.sample.images, files, strict=True):
        image.save(file)
    text = loaded.chat.template_text(prompt.sample)
    return {"text": text, "images": [str(f) for f in files], "add_special_tokens": loaded.chat.wants_bos(text)}


def serve(jobs: list[dict[str, Any]], home: Path) -> dict[str, dict[str, Any]]:
    """One process of vLLM's environment answers all jobs; {name: {answers} or {error}}."""
    (home / "jobs.json").write_text(json.dumps(jobs))
    command = [str(PYTHON), str(SCRIPT), str(home / "jobs.json"), str(home / "answers.json")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads((home / "answers.json").read_text())
    return found
