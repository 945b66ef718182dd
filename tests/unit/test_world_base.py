"""How the base model is made: the same batches and losses every time, on any machine.

After a deliberate change of the recipe: `python tests/unit/test_world_base.py` renews the golden file.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from seethink.world.base import BaseConfig, Batch, Encoder, conversation, make_batches, train_base, vision_batches
from seethink.world.nano import IMAGE_SEQ_LENGTH, build_processor, build_tokenizer

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "base.json"
SMALL = BaseConfig(batch_size=16)
STEPS = 3


def first_losses() -> dict[str, object]:
    vision, language = train_base(SMALL, None, stop_after=STEPS, log=lambda _: None)
    return {"config": asdict(SMALL), "vision": vision, "language": language}


def test_first_losses_are_golden() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    now = first_losses()
    assert golden["config"] == now["config"], "the recipe of the base model changed: renew the golden file"
    assert now["vision"] == pytest.approx(golden["vision"], rel=1e-4)
    assert now["language"] == pytest.approx(golden["language"], rel=1e-4)


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
    one, two = (list(make_batches(config, encoder)) for _ in range(2))
    assert len(one) == 10
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert not any(same(a, b) for i, a in enumerate(one) for b in one[:i])
    other = next(make_batches(BaseConfig(batch_size=4, steps=10, seed=1), encoder))
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
    image, turns = next(c for c in (conversation(SMALL, np.random.default_rng(i)) for i in range(50)) if c[0])
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
        _, turns = conversation(SMALL, rng)
        assert not any("think" in text or "Wait" in text for turn in turns for text in turn)


def test_batches_hold_pictures_for_those_who_have_one(encoder: Encoder) -> None:
    image_token = 0
    for batch in islice(make_batches(BaseConfig(batch_size=8, steps=8), encoder), 8):
        image_token = image_token or int(encoder._ids("<IMG_CONTEXT>")[0])
        with_image = (batch.input_ids == image_token).any(1).sum()
        assert len(batch.pixel_values) == int(with_image)
        assert batch.loss_mask.any(1).all()


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(first_losses(), indent=2) + "\n", encoding="utf-8")
