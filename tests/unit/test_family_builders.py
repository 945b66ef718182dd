"""The tiny checkpoints of `helpers/families.py`: they load, take images as the real ones do, and look at them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.families import FAMILIES, ONE_IMAGE_FAMILIES, picture, save_family

pytestmark = pytest.mark.slow
SIZES = ((40, 40), (80, 30))
"""A square and a wide picture: tiles, grids and crops differ."""
PER_TOKEN = ("attention_mask", "token_type_ids", "mm_token_type_ids")
MANY_IMAGE_FAMILIES = tuple(f for f in FAMILIES if f not in ONE_IMAGE_FAMILIES)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """model_type -> (model, processor), each saved and loaded once."""
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()

    @cache
    def loaded(model_type: str) -> tuple[Any, Any]:
        folder: Path = save_family(model_type, tmp_path_factory.mktemp("family"))
        model = AutoModelForImageTextToText.from_pretrained(folder)
        return model.eval(), AutoProcessor.from_pretrained(folder)

    return loaded


def _inputs(processor: Any, images: int, seed: int = 0) -> dict[str, Any]:
    """As `seethink.data.chat.Chat.prompt` makes them; the Q-Formers' processors drop their chat template."""
    parts = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": "what is the sum of red digits"}]
    writer = processor if processor.chat_template else processor.tokenizer
    text = writer.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False)
    pictures = [picture(seed + i, SIZES[i]) for i in range(images)] or None
    return dict(processor(images=pictures, text=[text], return_tensors="pt"))


@torch.no_grad()
def _logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    return model(**inputs).logits


def _image_features(model: Any, inputs: dict[str, Any]) -> int:
    """Rows of the language model's width that the vision tower and the connector make of the inputs."""
    text_keys = ("input_ids", *PER_TOKEN)
    with torch.no_grad():
        owner = model if hasattr(model, "get_image_features") else model.model
        features = owner.get_image_features(**{k: v for k, v in inputs.items() if k not in text_keys}).pooler_output
    if isinstance(features, torch.Tensor):
        features = [features]
    return sum(f.numel() for f in features) // model.config.text_config.hidden_size


@pytest.mark.parametrize("model_type", FAMILIES)
def test_loads_with_the_auto_classes(load: Any, model_type: str) -> None:
    model, processor = load(model_type)
    assert model.config.model_type == model_type
    assert 100_000 < sum(p.numel() for p in model.parameters()) < 1_500_000
    assert len(processor.tokenizer) <= model.config.text_config.vocab_size <= 600
    stop = processor.tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == model.config.text_config.eos_token_id == stop
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id != stop


def test_the_same_seed_makes_the_same_weights(tmp_path: Path) -> None:
    folders = [save_family("llava", tmp_path / name, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    first, same, other = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert first == same != other


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("model_type", MANY_IMAGE_FAMILIES)
def test_an_image_token_for_every_image_feature(load: Any, model_type: str, images: int) -> None:
    model, processor = load(model_type)
    inputs = _inputs(processor, images)
    count = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert ("pixel_values" in inputs) == (images > 0) == (count > 0)
    if images:
        assert count == _image_features(model, inputs)
    logits = _logits(model, inputs)
    assert logits.shape[:2] == inputs["input_ids"].shape
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.3, "a model so flat tests nothing"
    for key in PER_TOKEN:
        assert key not in inputs or inputs[key].shape == inputs["input_ids"].shape


@pytest.mark.parametrize("model_type", ONE_IMAGE_FAMILIES)
def test_q_former_families_take_exactly_one_image(load: Any, model_type: str) -> None:
    model, processor = load(model_type)
    inputs = _inputs(processor, 1)
    count = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert count == _image_features(model, inputs) == model.config.num_query_tokens
    assert torch.isfinite(_logits(model, inputs)).all()

    with pytest.raises(TypeError, match="pixel_values"):
        _logits(model, _inputs(processor, 0))
    two = _inputs(processor, 2)
    assert (two["input_ids"] == model.config.image_token_id).sum() == count, "places for one image only"
    if model_type == "instructblip":
        with pytest.raises(RuntimeError, match="Sizes of tensors"):
            _logits(model, two)
    else:
        # BLIP-2 looks at the first image and drops the second without a word.
        # Up to the last digits: some processors sum a batch of two in another order.
        torch.testing.assert_close(_logits(model, two), _logits(model, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_logits_follow_the_pixels(load: Any, model_type: str) -> None:
    model, processor = load(model_type)
    first, other = (_inputs(processor, 1, seed) for seed in (0, 5))
    assert torch.equal(first["input_ids"], other["input_ids"])
    assert not torch.equal(first["pixel_values"], other["pixel_values"])
    gap = (_logits(model, first) - _logits(model, other))[0, -1].abs().max()
    assert gap > 0.1


@pytest.mark.parametrize("model_type", ["internvl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "idefics3", "smolvlm"])
def test_image_tokens_depend_on_the_shape(load: Any, model_type: str) -> None:
    model, processor = load(model_type)
    counts = [int((_inputs(processor, n)["input_ids"] == model.config.image_token_id).sum()) for n in (1, 2)]
    assert counts[1] != 2 * counts[0]


def test_gemma3_windows_matter(load: Any) -> None:
    """The prompt is longer than the window, and the sliding layers see only the window."""
    model, processor = load("gemma3")
    inputs = _inputs(processor, 1)
    assert inputs["input_ids"].shape[1] > model.config.text_config.sliding_window
    assert set(model.config.text_config.layer_types) == {"sliding_attention", "full_attention"}
    narrow = _logits(model, inputs)
    model.config.text_config.sliding_window, kept = 1000, model.config.text_config.sliding_window
    wide = _logits(model, inputs)
    model.config.text_config.sliding_window = kept
    assert not torch.allclose(narrow[0, -1], wide[0, -1], atol=1e-3)


def test_qwen3_deepstack_matters(load: Any) -> None:
    model, processor = load("qwen3_vl")
    inputs = _inputs(processor, 1)
    before = _logits(model, inputs)
    last = model.model.visual.deepstack_merger_list[1].linear_fc2.weight
    with torch.no_grad():
        kept = last.clone()
        last.zero_()
        after = _logits(model, inputs)
        last.copy_(kept)
    assert not torch.allclose(before[0, -1], after[0, -1], atol=1e-3)
