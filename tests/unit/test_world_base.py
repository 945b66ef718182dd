"""How the base model is made: the same batches and losses every time, on any machine.

After a deliberate change of the recipe: `python tests/unit/test_world_base.py` renews the golden file.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from seethink.world.base import BaseConfig, Batch, Encoder, make_batches, train_base, vision_batches
from seethink.world.nano import IMAGE_SEQ_LENGTH, build_processor, build_tokenizer
from seethink.world.talk import conversation, practice

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "base.json"
SMALL = BaseConfig(batch_size=16)
STEPS = 3


def first_losses() -> dict[str, object]:
    losses = train_base(SMALL, None, stop_after=STEPS, log=lambda _: None)
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


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(first_losses(), indent=2) + "\n", encoding="utf-8")
