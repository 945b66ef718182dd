"""A reward model in this process: a language model of transformers whose head gives one number for a conversation.

Its checkpoint is that of a class `...ForSequenceClassification` with one label, as reward models are published; its
score is the label's logit. Pictures are shown where transformers' class and the checkpoint's processor take them
(Gemma 3, Qwen3.5), and elsewhere the text alone.

Letters: B conversations, T tokens of the longest.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from seethink.core.types import Sample
from seethink.data.chat import TEXT_KEYS, Chat
from seethink.models.load import (
    REPORTING,
    ModelError,
    check_source,
    default_device,
    prepare_transformers,
    refuse_damaged_files,
    refuse_unreachable,
    refuse_wrong_tensors,
    unreadable,
)
from seethink.models.padding import join_images

BATCH_TOKENS = 16_384
"""Tokens of one forward, padding included; one longer conversation goes alone."""
DIGITS = 6
"""Decimals of a score, in float32."""

Encoded = dict[str, Tensor]
"""The tensors of one conversation."""


@dataclass(frozen=True, slots=True)
class RewardHead:
    """A loaded reward model in evaluation mode."""

    model: Any
    chat: Chat
    takes_images: bool

    def encode(self, sample: Sample, response: str) -> Encoded | None:
        """The conversation in the checkpoint's own chat template.

        None where it is longer than the model's context, or a text holds one of the template's own tokens. Raises
        TemplateError where the template cannot write it, UserError where an image cannot be read.
        """
        question = sample.question.replace("<image>", "")  # the marks say where pictures stand
        if self.chat.special_token_in(sample.system, question, *sample.choices, response) is not None:
            return None
        found = self.chat.answered(sample, response, with_images=self.takes_images)
        length = found["input_ids"].shape[1]
        return None if self.chat.context is not None and length > self.chat.context else found

    @torch.inference_mode()
    def scores(self, batch: Sequence[Encoded]) -> list[float]:
        """One score per conversation, which is not finite where the model overflows."""
        inputs = {name: tensor.to(self.model.device) for name, tensor in self._padded(batch).items()}
        logits_B1 = self.model(**inputs).logits
        return [round(score, DIGITS) for score in logits_B1[:, 0].float().tolist()]

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of the conversations that go through the model together, the shortest first."""
        batch: list[int] = []
        for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
            if batch and (self._pad_id is None or lengths[place] * (len(batch) + 1) > BATCH_TOKENS):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @property
    def _pad_id(self) -> int | None:
        """By which the model finds the last token of a row; without one it takes a single row."""
        found: int | None = self.model.config.get_text_config().pad_token_id
        return found

    def _padded(self, batch: Sequence[Encoded]) -> Encoded:
        """[B, T] tensors per token, filled up on the right, and the images of all."""
        width = max(one["input_ids"].shape[1] for one in batch)
        found: Encoded = {}
        for name in (key for key in TEXT_KEYS if any(key in one for one in batch)):
            fill = self._pad_id if name == "input_ids" and self._pad_id is not None else 0
            rows = [one.get(name, torch.zeros_like(one["input_ids"])) for one in batch]  # types: 0 without an image
            found[name] = torch.cat([pad(row, (0, width - row.shape[1]), value=fill) for row in rows])
        return found | join_images([{k: t for k, t in one.items() if k not in TEXT_KEYS} for one in batch])


def reward_class(source: str) -> str:
    """The checkpoint's class in transformers, from its configuration and the headers of its weights alone.

    Raises ModelError for anything but safetensors of a sequence classifier with one label.
    """
    prepare_transformers()
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSES

    check_source(source, source)
    refuse_unreachable(source, source)
    with unreadable(source):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        stored = (config.architectures or ["no class"])[0]
        known: Any = CLASSES
        if type(config) not in known or not stored.endswith("ForSequenceClassification"):
            raise ModelError(f"expected a reward model (...ForSequenceClassification with one label), found {stored}")
        if config.num_labels != 1:
            raise ModelError(f"expected one label, found {config.num_labels}: {stored} gives classes and no score")
        refuse_damaged_files(source)
        return str(known[type(config)].__name__)


def load_reward_head(source: str) -> RewardHead:
    """Load a reward model on the CUDA device, in the dtype of its file, or else on the CPU in float32.

    Raises ModelError, as `reward_class` and for tensors that are missing, too many, misshapen or not finite, and
    TemplateError for a chat template that does not end.
    """
    name = reward_class(source)
    from transformers import AutoModelForSequenceClassification, AutoProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = default_device()
    with unreadable(source):
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        loader: Any = AutoModelForSequenceClassification
        dtype = "auto" if device.type == "cuda" else torch.float32
        model, told = loader.from_pretrained(
            source, dtype=dtype, trust_remote_code=False, use_safetensors=True, **REPORTING
        )
        refuse_wrong_tensors(model, told)
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        chat = Chat(processor, context=context)
        if not chat.template_owner.chat_template:
            raise ModelError(f"{name} has no chat template, in which it reads a question and its answer")
        takes = "pixel_values" in inspect.signature(model.forward).parameters
    return RewardHead(model.to(device).eval(), chat, takes and hasattr(processor, "image_processor"))
