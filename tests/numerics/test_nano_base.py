"""The packaged base model: plain transformers loads it, and it reads held-out handwritten digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from seethink.config import RewardConfig
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling
from seethink.models.load import NANO, load_model
from seethink.pretrain.settings import BaseConfig
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import to_sample
from seethink.world.questions import make_item


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert sum(file.stat().st_size for file in NANO.rglob("*")) <= 8 * 2**20
    about = json.loads((NANO / "base.json").read_text())
    assert BaseConfig(**about["config"]) == BaseConfig()
    assert about["seconds"] > 0


def test_plain_transformers_loads_it() -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(NANO)
    model = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    assert type(model).__name__ == "InternVLForConditionalGeneration"
    assert 1_000_000 <= sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert processor.tokenizer("<think>")["input_ids"] == [processor.tokenizer.convert_tokens_to_ids("<think>")]


@pytest.mark.parametrize(
    "blind", [pytest.param(False, id="sees"), pytest.param(True, id="blind", marks=pytest.mark.slow)]
)
def test_it_reads_held_out_digits_and_needs_its_eyes(blind: bool) -> None:
    rng = np.random.default_rng(5)
    items = [make_item("math", "easy", "test", rng, task="read", choice_share=0.0) for _ in range(200)]
    loaded = load_model("nano")
    prompts = [loaded.chat.prompt(to_sample(item, str(i), None)) for i, item in enumerate(items)]
    if blind:
        for prompt in prompts:
            prompt.mm_kwargs["pixel_values"] = torch.ones_like(prompt.mm_kwargs["pixel_values"])
    groups = InProcessGenerator(loaded).generate(prompts, 1, Sampling(16, temperature=0.0), (0,))
    Rewarder(RewardConfig()).score([(p.sample, g[0]) for p, g in zip(prompts, groups, strict=True)])
    accuracy = np.mean([g[0].reward_parts["accuracy"] for g in groups])
    # Chance is the best constant answer among ten digits, here with three standard errors of room.
    assert accuracy <= 0.2 if blind else accuracy >= 0.9
