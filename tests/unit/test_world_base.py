"""How the base model is made: the same batches and losses every time, on any machine.

After a deliberate change of the recipe: `python tests/unit/test_world_base.py` renews the golden file.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seethink.core.errors import UserError
from seethink.pretrain.base import train_base, train_vision
from seethink.pretrain.batches import Batch, Encoder, Talk, make_batches, vision_batches
from seethink.pretrain.nano import IMAGE_SEQ_LENGTH, build_processor, build_tokenizer
from seethink.pretrain.phases import Course
from seethink.pretrain.settings import BaseConfig
from seethink.pretrain.variants import VARIANTS, variant_named
from seethink.world.talk import Turn, conversation, perception, practice

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "base.json"
SMALL = BaseConfig(batch_size=16)
STEPS = 3


def first_losses() -> dict[str, object]:
    losses = train_base(SMALL, None, variant=VARIANTS["nano"], stop_after=STEPS, log=lambda _: None)
    return {"config": asdict(SMALL), **losses}


def test_first_losses_are_golden() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    now = first_losses()
    assert golden["config"] == now["config"], "the recipe of the base model changed: renew the golden file"
    for phase in ("vision", "language", "practice"):
        assert now[phase] == pytest.approx(golden[phase], rel=1e-4)


@pytest.fixture(scope="module")
def encoder(tokenizer: object) -> Encoder:
    return Encoder(tokenizer, IMAGE_SEQ_LENGTH)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return build_tokenizer()


def same(one: Batch, two: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(two, name)) for name in ("input_ids", "loss_mask", "pixel_values")
    )


def test_batches_are_a_function_of_the_seed(encoder: Encoder) -> None:
    config = BaseConfig(batch_size=4, steps=10)
    one, two = (list(make_batches(config, encoder, conversation, config.steps, 1)) for _ in range(2))
    assert len(one) == 10
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert not any(same(a, b) for i, a in enumerate(one) for b in one[:i])
    other = next(make_batches(BaseConfig(batch_size=4, seed=1), encoder, conversation, 10, 1))
    assert not same(one[0], other)


def test_vision_batches_are_a_function_of_the_seed() -> None:
    config = BaseConfig(batch_size=4, vision_steps=3)
    one, two = (list(vision_batches(config)) for _ in range(2))
    assert len(one) == 3
    for (pixels, targets), (again, targets_again) in zip(one, two, strict=True):
        assert torch.equal(pixels, again)
        assert torch.equal(targets, targets_again)
        assert pixels.shape == (4, 3, 56, 56)
        assert float(pixels.min()) >= -1
        assert float(pixels.max()) <= 1
        assert ((targets > 0).sum(1) >= 1).all()


def test_the_loss_is_on_replies_alone(encoder: Encoder, tokenizer: object) -> None:
    ids, mask = encoder.encode(True, [("What is the red digit?", "The answer is 3."), ("Describe.", "red is 3.")])
    learned = tokenizer.decode([i for i, on in zip(ids, mask, strict=True) if on])  # type: ignore[attr-defined]
    assert learned == "The answer is 3.<|im_end|>red is 3.<|im_end|>"
    whole = tokenizer.decode(ids)  # type: ignore[attr-defined]
    assert whole.count("<IMG_CONTEXT>") == IMAGE_SEQ_LENGTH


def test_conversations_are_encoded_as_the_chat_template_writes_them(encoder: Encoder, tokenizer: object) -> None:
    """Otherwise the base model would meet another prompt in use than it was trained on."""
    image, turns = next(c for c in (conversation(np.random.default_rng(i)) for i in range(50)) if c[0])
    messages = []
    for number, (question, answer) in enumerate(turns):
        parts = [{"type": "image"}] * (number == 0) + [{"type": "text", "text": question}]
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    processor = build_processor(tokenizer)
    text = processor.apply_chat_template(messages, tokenize=False)
    assert processor(images=[image], text=[text])["input_ids"][0] == encoder.encode(True, turns)[0]


def test_the_base_model_never_sees_a_trace() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        for _, turns in (conversation(rng), practice(rng)):
            assert not any("think" in text or "Wait" in text for turn in turns for text in turn)


def test_practice_is_right() -> None:
    """Every practice answer, worked out again from the question's text."""
    rng = np.random.default_rng(1)
    for question, answer in (turn for _ in range(300) for turn in _practice_turns(rng)):
        if found := re.match(r"Which option is (\w+)\?\n", question):
            assert f"\n{answer.removeprefix('The answer is ')} {found[1]}" in question
            continue
        values = {name: int(value) for name, value in re.findall(r"(\w+) is (\d+)\.", question)}
        if found := re.search(r"What is (\w+)\?", question):
            assert answer == f"The answer is {values[found[1]]}."
            continue
        first, word, second = re.search(r"Compute (\w+) (plus|minus) (\w+)\.", question).groups()  # type: ignore[union-attr]
        a, b = (values[w] if w in values else int(w) for w in (first, second))
        sign, result = ("+", a + b) if word == "plus" else ("-", a - b)
        assert answer == f"{a}{sign}{b}={result}."
        assert result >= 0


def _practice_turns(rng: np.random.Generator) -> list[tuple[str, str]]:
    image, turns = practice(rng)
    return [] if image is not None or turns[0][0].startswith("What is") else turns


def test_batches_hold_pictures_for_those_who_have_one(encoder: Encoder) -> None:
    image_token = 0
    for batch in make_batches(BaseConfig(batch_size=8), encoder, conversation, 8, 1):
        image_token = image_token or int(encoder._ids("<IMG_CONTEXT>")[0])
        with_image = (batch.input_ids == image_token).any(1).sum()
        assert len(batch.pixel_values) == int(with_image)
        assert batch.loss_mask.any(1).all()


TINY = BaseConfig(vision_steps=2, steps=2, practice_steps=2, batch_size=4)
WEAK = replace(VARIANTS["weak"], config=TINY)


def train_tiny(out: Path, talk: Talk = perception, config: BaseConfig = TINY) -> dict[str, list[float]]:
    return train_base(config, out, variant=replace(WEAK, talk=talk), log=lambda _: None)


def interrupting(_: np.random.Generator) -> tuple[Any, list[Turn]]:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_one_goes_on_after_its_last_whole_phase(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    losses = train_tiny(whole)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(resumed, interrupting)
    [stored] = resumed.iterdir()
    assert "vision" in stored.name
    with pytest.raises(UserError, match=r"made with other settings; remove it"):
        train_tiny(resumed, config=replace(TINY, seed=1))
    assert train_tiny(resumed) == losses
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sorted(f.name for f in whole.iterdir()) == sorted(f.name for f in resumed.iterdir())
    assert json.loads((resumed / "base.json").read_text())["config"] == asdict(TINY)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no base model of the variant 'qwn'; there are nano, resampler, qwen, weak"):
        variant_named("qwn")


def test_perception_asks_for_nothing_but_what_can_be_seen() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        image, turns = perception(rng)
        assert image is not None
        answers = [answer for question, answer in turns if question != "Describe the image."]
        [seen] = [answer for question, answer in turns if question == "Describe the image."]
        assert len(answers) == 2
        assert all(answer.removeprefix("The answer is ").rstrip(".") in seen for answer in answers)


def test_only_pictures_teach_where_the_language_model_is_frozen() -> None:
    """A batch of texts alone would have no gradient, and texts of the second world are long enough to share none."""
    rng, variant = np.random.default_rng(0), VARIANTS["nano2-resampler"]
    assert variant.frozen == ("language",)
    assert all(variant.talk(rng)[0] is not None for _ in range(200))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resampler", "qwen", "nano2-resampler", "nano2-qwen"])
def test_the_first_phase_of_relatives_learns_their_parents_image_tokens(name: str) -> None:
    """Eight steps at a high rate come nearer to them; the language model stays."""
    variant = VARIANTS[name]
    config = replace(variant.config, batch_size=8, warmup=1)
    model = variant.build(variant.tokenizer(variant.token_names), 0)
    before = model.get_input_embeddings().weight.clone()
    losses = train_vision(model, config, variant, 8, lambda _: None, Course(None, "vision", config)).losses
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(model.get_input_embeddings().weight, before)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(first_losses(), indent=2) + "\n", encoding="utf-8")
