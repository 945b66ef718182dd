"""Tiny reward models: one-label sequence classifiers of transformers, with a chat template of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from helpers.families import build_config
from helpers.family_processors import WORDS, build_processor, build_tokenizer, chat_template
from helpers.family_words import Words


def save_text_reward(folder: Path, seed: int = 0, labels: int = 1, context: int = 1024, width: int = 32) -> Path:
    """A Qwen2ForSequenceClassification with random weights, and four heads of a quarter of `width`."""
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    tokenizer = build_tokenizer(Words())
    tokenizer.chat_template = chat_template(Words())
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = labels
    return _save(Qwen2ForSequenceClassification(config), folder, seed)


def save_image_reward(family: str, folder: Path, seed: int = 0) -> Path:
    """A sequence classifier of a family with images, such as Gemma3ForSequenceClassification, with its processor."""
    from transformers import AutoModelForSequenceClassification

    tokenizer = build_tokenizer(WORDS[family])
    build_processor(family, tokenizer).save_pretrained(folder)
    config = build_config(family, tokenizer)
    config.num_labels = 1
    config.pad_token_id = config.text_config.pad_token_id = tokenizer.pad_token_id
    return _save(AutoModelForSequenceClassification.from_config(config), folder, seed)


def _save(model: Any, folder: Path, seed: int) -> Path:
    """With weights of variance 1 / fan-in, under which every token and patch shows in the score."""
    torch.manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    model.save_pretrained(folder)
    return folder
