"""Samples -> token ids and image tensors: the only place that knows chat templates and processors."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from seethink.data.dataset import LETTERS
from seethink.errors import UserError
from seethink.types import Prompt, Sample

_TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


class Chat:
    """Turns samples into prompts and responses into ids, with one processor."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self._special = tuple(str(token) for token in self.tokenizer.all_special_tokens)
        self.eos_id: int = self.tokenizer.eos_token_id
        self.pad_id: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos_id

    def prompt(self, sample: Sample) -> Prompt:
        """The user's turn with its images, up to and including the assistant header. Raises UserError."""
        self._refuse_special(sample.id, sample.question, *sample.choices)
        messages = [{"role": "user", "content": _content(sample)}]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        images = list(sample.images) or None
        inputs = self.processor(images=images, text=[text], return_tensors="pt")
        mm_kwargs: dict[str, Tensor] = {k: v for k, v in inputs.items() if k not in _TEXT_KEYS}
        return Prompt(sample, inputs["input_ids"][0].tolist(), mm_kwargs)

    def _refuse_special(self, name: str, *texts: str) -> None:
        """Data may not write the template's own tokens: they would forge turns or image places."""
        for token in self._special:
            if any(token in text for text in texts):
                raise UserError(f"sample {name!r} holds the special token {token!r} as text; remove or respell it")

    def response_ids(self, response: str) -> list[int]:
        """A response to imitate, its end-of-turn token included."""
        ids: list[int] = self.tokenizer(response, add_special_tokens=False)["input_ids"]
        return [*ids, self.eos_id]

    def decode(self, token_ids: list[int]) -> str:
        """Text of a response without the end-of-turn token; `<think>` stays."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def token_texts(self, token_ids: list[int]) -> list[str]:
        """Each token by itself, for viewers and for finding critical words."""
        return [str(self.tokenizer.decode([token])) for token in token_ids]


def _content(sample: Sample) -> list[dict[str, str]]:
    """Chat parts of a question; images come first unless `<image>` marks say where."""
    text = _with_choices(sample)
    if "<image>" not in text:
        return [*({"type": "image"} for _ in sample.images), {"type": "text", "text": text}]
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(text.split("<image>")):
        if number:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def _with_choices(sample: Sample) -> str:
    """The question, followed by its options unless it already shows each beside its letter."""
    lettered = list(zip(LETTERS, sample.choices, strict=False))
    shown = (rf"\b{letter}\W{{1,4}}{re.escape(choice)}" for letter, choice in lettered)
    if all(re.search(option, sample.question) for option in shown):
        return sample.question
    return sample.question + "".join(f"\n{letter}. {choice}" for letter, choice in lettered)
