"""The nano's relatives: how they start from it, that they load wherever it does, and what the packaged ones can do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seethink
from seethink.config import RewardConfig
from seethink.core.types import Completion, Sample
from seethink.generate.in_process.generator import InProcessGenerator, Sampling
from seethink.models.describe import describe
from seethink.models.forward import hidden_states, output_head
from seethink.models.load import PACKAGED, LoadedModel, load_model
from seethink.models.parts import family_of, split_parts
from seethink.pretrain.variants import VARIANTS, Variant
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import to_sample
from seethink.world.questions import make_item
from seethink.world.talk import PRACTICE
from seethink.world.v2 import source as world2
from seethink.world.v2.talk import drills

pytestmark = pytest.mark.slow
CLASSES = {"resampler": "Blip2", "qwen": "Qwen2_5_VL", "weak": "InternVL"}
RELATIVES = [f"{parent}-{kind}" for parent in ("nano", "nano2") for kind in CLASSES]
MOST_TOKENS = 64
READING_FLOOR = 0.8
"""Share of 100 held-out digits; the best constant answer gets at most a fifth."""


@pytest.fixture(scope="module", params=RELATIVES)
def relative(request: pytest.FixtureRequest) -> LoadedModel:
    return load_model(request.param)


@pytest.fixture
def nano(relative: LoadedModel) -> LoadedModel:
    """The base that it comes from."""
    return load_model(relative.source.rpartition("-")[0])


def kind_of(relative: LoadedModel) -> str:
    return relative.source.rpartition("-")[2]


def variant_of(relative: LoadedModel) -> Variant:
    return VARIANTS[relative.source.removeprefix("nano-")]


def questions(relative: LoadedModel, task: str, n: int) -> list[Sample]:
    """About pictures of the world that it knows."""
    if relative.source.startswith("nano2"):
        return world2.samples("world2:cold,dice,bars:probes" if task == "read" else "world2:sums", "test", n, 6)
    rng = np.random.default_rng(6)
    items = [make_item("math", "easy", "test", rng, task=task, choice_share=0.0) for _ in range(n)]
    return [to_sample(item, str(i), None) for i, item in enumerate(items)]


def answers(loaded: LoadedModel, samples: list[Sample]) -> list[Completion]:
    prompts = [loaded.chat.prompt(sample) for sample in samples]
    return [g[0] for g in InProcessGenerator(loaded).generate(prompts, 1, Sampling(MOST_TOKENS, temperature=0.0), (0,))]


def test_the_package_holds_every_one_and_says_how_it_was_made() -> None:
    assert set(PACKAGED) == {"nano", "nano2", *RELATIVES}
    package = Path(seethink.__file__).resolve().parent
    for name in RELATIVES:
        folder = PACKAGED[name]
        assert folder.is_relative_to(package)
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 6 * 2**20
        assert {file.suffix for file in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
        about = json.loads((folder / "base.json").read_text())
        assert type(VARIANTS["nano"].config)(**about["config"]) == VARIANTS[name.removeprefix("nano-")].config
        assert about["seconds"] > 0


def test_a_relative_is_as_large_as_the_nano_and_made_of_the_same_parts(
    relative: LoadedModel, nano: LoadedModel
) -> None:
    assert type(relative.model).__name__.startswith(CLASSES[kind_of(relative)])
    parts, base = sizes(relative), sizes(nano)
    assert 0.94 * sum(base.values()) <= sum(parts.values()) <= 1.25 * sum(base.values())
    assert parts["language"] == {"nano": 845_440, "nano2": 1_690_624}[nano.source]
    assert min(parts.values()) > 80_000


def sizes(loaded: LoadedModel) -> dict[str, int]:
    return {part: sum(p.numel() for p in named.values()) for part, named in split_parts(loaded.model).items()}


def test_the_connector_is_described(relative: LoadedModel) -> None:
    kinds = {"resampler": "Q-Former", "qwen": "patch merger", "weak": "pixel unshuffle"}
    assert kinds[kind_of(relative)] in family_of(describe(relative.source).model).connector_kind


def test_what_it_shares_with_the_nano_is_the_same_to_the_last_bit(relative: LoadedModel, nano: LoadedModel) -> None:
    if kind_of(relative) == "weak":
        ours, theirs = relative.model.model.vision_tower, nano.model.model.vision_tower
        assert same_weights(relative.model.model.multi_modal_projector, nano.model.model.multi_modal_projector)
        assert not same_weights(relative.model.model.language_model, nano.model.model.language_model)
    else:
        blip = kind_of(relative) == "resampler"
        ours = relative.model.language_model.model if blip else relative.model.model.language_model
        theirs = nano.model.model.language_model
        if "language" not in variant_of(relative).frozen:
            pytest.skip("its language model learned the places that M-RoPE gives to image tokens")
        assert torch.equal(relative.model.get_output_embeddings().weight, nano.model.lm_head.weight)
    assert same_weights(ours, theirs)


def same_weights(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    pairs = zip(one.named_parameters(), two.named_parameters(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_prompts_and_pixels_are_the_nanos(relative: LoadedModel, nano: LoadedModel) -> None:
    [sample] = questions(relative, "read", 1)
    theirs, ours = nano.chat.prompt(sample), relative.chat.prompt(sample)
    assert ours.input_ids == theirs.input_ids
    assert relative.chat.prompt_length(sample) == len(ours.input_ids)
    expected = variant_of(relative).image_inputs(theirs.mm_kwargs["pixel_values"])
    assert set(ours.mm_kwargs) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(ours.mm_kwargs[key], tensor)


def test_a_tuned_copy_has_the_same_prompts(relative: LoadedModel, tmp_path: Path) -> None:
    """What the processor is told is saved with it: templates, image tokens, sizes."""
    from seethink.models.load import export_model

    export_model(relative.model, relative.chat, tmp_path, {})
    [sample] = questions(relative, "read", 1)
    assert load_model(str(tmp_path)).chat.prompt(sample).input_ids == relative.chat.prompt(sample).input_ids


@torch.inference_mode()
def test_greedy_answers_are_those_of_transformers_generate(relative: LoadedModel) -> None:
    samples = questions(relative, "compare", 6)
    ours = answers(relative, samples)
    for sample, completion in zip(samples, ours, strict=True):
        text = relative.chat.template_text(sample)
        inputs = relative.chat.processor(images=list(sample.images), text=[text], return_tensors="pt")
        out = relative.model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)
        tail = out[0, -len(completion.token_ids) :].tolist()
        assert tail == completion.token_ids
        assert completion.text


def test_it_reads_held_out_digits(relative: LoadedModel) -> None:
    pairs = list(zip(samples := questions(relative, "read", 100), answers(relative, samples), strict=True))
    Rewarder(RewardConfig()).score(pairs)
    assert np.mean([c.reward_parts["accuracy"] for _, c in pairs]) >= READING_FLOOR


def drill(rng: np.random.Generator) -> tuple[str, str]:
    return drills(rng)[1][0]


@pytest.mark.parametrize(("name", "turn"), [("nano", PRACTICE["option"]), ("nano", PRACTICE["sum"]), ("nano2", drill)])
def test_weaker_reasoning_is_weaker(name: str, turn: Callable[[np.random.Generator], tuple[str, str]]) -> None:
    rng = np.random.default_rng(3)
    turns = [turn(rng) for _ in range(60)]
    samples = [Sample(str(i), question) for i, (question, _) in enumerate(turns)]
    strong, weak = (
        np.mean([c.text == answer for c, (_, answer) in zip(answers(m, samples), turns, strict=True)])
        for m in (load_model(name), load_model(f"{name}-weak"))
    )
    assert strong >= weak + 0.4


@pytest.fixture(scope="module", params=["nano", "nano2"])
def parent(request: pytest.FixtureRequest) -> LoadedModel:
    return load_model(request.param)


def built(parent: LoadedModel, kind: str) -> Any:
    """A relative of `parent` before its first step."""
    variant = VARIANTS[kind if parent.source == "nano" else f"{parent.source}-{kind}"]
    return variant.build(variant.tokenizer(variant.token_names), 0).eval()


@torch.inference_mode()
def test_a_new_resampler_has_its_parents_vision_encoder(parent: LoadedModel) -> None:
    pixels = torch.randn(
        2, 3, *parent.model.config.vision_config.image_size, generator=torch.Generator().manual_seed(0)
    )
    theirs = parent.model.model.vision_tower(pixels).last_hidden_state
    vision = built(parent, "resampler").vision_model
    last = vision.encoder(vision.embeddings(pixels)).last_hidden_state
    torch.testing.assert_close(last, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["resampler", "qwen"])
@torch.inference_mode()
def test_a_new_relative_has_its_parents_language_model(parent: LoadedModel, kind: str) -> None:
    ids = torch.tensor([parent.chat.tokenizer("What is the sum of all values?")["input_ids"]])
    places = torch.arange(ids.shape[1])[None]
    model = built(parent, kind)
    rope = places.expand(3, -1, -1) if kind == "qwen" else places
    ours, theirs = (output_head(m)(hidden_states(m, ids, p, {})) for m, p in ((model, rope), (parent.model, places)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_new_weak_one_has_its_parents_eyes_alone(parent: LoadedModel) -> None:
    pixels = torch.randn(
        2, 3, *parent.model.config.vision_config.image_size, generator=torch.Generator().manual_seed(0)
    )
    weak = built(parent, "weak")
    ours, theirs = (m.get_image_features(pixels, return_dict=True).pooler_output for m in (weak, parent.model))
    assert torch.equal(ours, theirs)
    assert not torch.equal(weak.get_input_embeddings().weight, parent.model.get_input_embeddings().weight)
