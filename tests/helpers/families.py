"""Tiny random checkpoints of every model family: real classes of transformers, real processors, Hugging Face format.

Each has about half a million parameters, pictures of a few dozen pixels, and 4 to 20 image tokens per tile. Widths and
depths are small, but every mechanism is there: tiles, deepstack, sliding windows, window attention in the vision tower,
grouped queries, learned positions, Q-Formers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import newer_families
from helpers.family_processors import (
    WORDS,
    build_processor,
    build_tokenizer,
)
from helpers.family_words import ANYRES_GRID, ANYRES_PATCH, ANYRES_TILE, EOS, PAD, PATCH, QUERY_TOKENS, TILE, Words
from seethink.models.weight_stream import write_weights

STATEFUL_FAMILIES: tuple[str, ...] = ("lfm2_vl", "qwen3_5", "qwen3_5_moe", "minicpmv4_6", "llama4")
"""Their short convolutions or linear attention carry more than keys and values: no prompt is shared, no row packed."""
FAMILIES: tuple[str, ...] = tuple(name for name in WORDS if name not in STATEFUL_FAMILIES)
NEWER_FAMILIES: tuple[str, ...] = tuple(newer_families.WORDS)
"""Tested through the same code as those before them, so with fewer forms of each test."""
FAST_FAMILIES = ("internvl", "qwen2_5_vl")
"""One position per token, and three per token."""
FAMILY_PARAMS = [name if name in FAST_FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
"""To parametrize a test with every family; those beyond `FAST_FAMILIES` are slow tests."""
STATEFUL_PARAMS = [pytest.param(name, marks=pytest.mark.slow) for name in STATEFUL_FAMILIES]
ONE_IMAGE_FAMILIES: tuple[str, ...] = ("instructblip", "blip-2")
"""Families whose processor and forward take exactly one image per prompt."""
NESTED_VISION_FAMILIES: tuple[str, ...] = ("llava", "llava_onevision", "gemma3", "cohere2_vision", "lfm2_vl")
"""Families whose vision tower is a CLIP or SigLIP model."""

SLIDING_WINDOW = 16
WIDTH, HEADS, KV_HEADS, HEAD_DIM, INNER, LAYERS = 128, 4, 2, 32, 192, 3
VISION_WIDTH, VISION_LAYERS = 48, 2


def picture(seed: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A picture of noise of (width, height), which differs from every other one in every patch."""
    noise = np.random.default_rng([13, seed]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def save_family(model_type: str, folder: Path, seed: int = 0) -> Path:
    """A checkpoint folder that AutoModelForImageTextToText and AutoProcessor load."""
    tokenizer = build_tokenizer(WORDS[model_type])
    processor = build_processor(model_type, tokenizer)
    write_weights(build_model(model_type, tokenizer, seed), folder)
    if model_type in NESTED_VISION_FAMILIES:
        _nest_vision(folder / "model.safetensors")
    processor.save_pretrained(folder)
    return folder


def _nest_vision(file: Path) -> None:
    """Name the weights of the vision tower as the published checkpoints do, which are the names that vLLM knows.

    transformers drops one level of the names when it saves a model that it built; a loaded model keeps its names.
    """
    short, long = "vision_tower.", "vision_tower.vision_model."
    weights = load_file(file)
    save_file({name.replace(short, long): w for name, w in weights.items()}, file, metadata={"format": "pt"})


def build_model(model_type: str, tokenizer: Any, seed: int) -> Any:
    """A random model in fp32."""
    from transformers import AutoModelForImageTextToText

    config = build_config(model_type, tokenizer)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    _widen_init(model)
    for key, value in _ends(tokenizer).items():
        setattr(config, key, value)  # Qwen2.5-VL drops these on loading, except in its text part.
        setattr(model.generation_config, key, value)
    return model


def _ends(tokenizer: Any) -> dict[str, int | None]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.convert_tokens_to_ids(EOS),
        "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
    }


def _widen_init(model: Any) -> None:
    """Draw weights of variance 1 / fan-in and small biases; norms keep their initial values.

    The families' standard deviation of 0.02, and zeros for the queries of Q-Formers, suit widths of thousands. In a
    model this narrow they would leave the logits almost constant.
    """
    for name, weight in model.named_parameters():
        if any(word in name for word in ("query_tokens", "class_embedding", "position_embedding", "pos_embed")):
            torch.nn.init.normal_(weight, std=0.3)
        elif "image_newline" in name:
            torch.nn.init.normal_(weight)
        elif weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        elif name.endswith("bias") and "norm" not in name:
            torch.nn.init.normal_(weight, std=0.05)


@contextmanager
def plain_experts(model: Any) -> Iterator[None]:
    """Experts one after another: the fused product of all, which transformers chooses, takes no float64."""
    configs = {
        id(c): c for m in model.modules() if getattr(c := getattr(m, "config", None), "_experts_implementation", None)
    }
    before = {number: config._experts_implementation for number, config in configs.items()}
    for config in configs.values():
        config._experts_implementation = "eager"
    yield
    for number, config in configs.items():
        config._experts_implementation = before[number]


def build_config(model_type: str, tokenizer: Any) -> Any:
    if model_type in newer_families.WORDS:
        return newer_families.build_config(model_type, tokenizer, _text, _vision, _qwen_vision())
    build = {
        "internvl": _internvl,
        "qwen2_5_vl": _qwen2_5_vl,
        "qwen3_vl": _qwen3_vl,
        "llava": _llava,
        "llava_onevision": _llava_onevision,
        "idefics3": _split,
        "smolvlm": _split,
        "gemma3": _gemma3,
        "instructblip": _qformer,
        "blip-2": _qformer,
    }[model_type]
    return build(model_type, tokenizer)


def _text(model_type: str, tokenizer: Any, tied: bool) -> dict[str, Any]:
    """A decoder with grouped queries."""
    return {
        "model_type": model_type,
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 2048,
        "attention_dropout": 0.0,
        "tie_word_embeddings": tied,
        **_ends(tokenizer),
    }


def _vision(**changes: Any) -> dict[str, Any]:
    return {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": 4,
        "image_size": TILE,
        "patch_size": PATCH,
        "attention_dropout": 0.0,
        **changes,
    }


def _internvl(_: str, tokenizer: Any) -> Any:
    from transformers import InternVLConfig

    vision = _vision(image_size=[TILE, TILE], patch_size=[PATCH, PATCH], attention_bias=True, use_qk_norm=False)
    return InternVLConfig(
        vision_config={**vision, "hidden_dropout_prob": 0.0, "layer_scale_init_value": 1.0},
        text_config=_text("qwen2", tokenizer, tied=True),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(TILE // PATCH // 2) ** 2,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )


def _qwen_tokens(tokenizer: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()}


def _qwen_vision() -> dict[str, Any]:
    return {
        "depth": VISION_LAYERS,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": WIDTH,
    }


def _qwen2_5_vl(_: str, tokenizer: Any) -> Any:
    """One vision layer attends within windows of 2 x 2 image tokens, the other to the whole image."""
    from transformers import Qwen2_5_VLConfig

    text = _text("qwen2_5_vl_text", tokenizer, tied=False)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
    return Qwen2_5_VLConfig(
        vision_config={**_qwen_vision(), "window_size": 4 * PATCH, "fullatt_block_indexes": [1]},
        text_config={**text, "rope_parameters": rope},
        tie_word_embeddings=False,
        **_qwen_tokens(tokenizer),
    )


def _qwen3_vl(_: str, tokenizer: Any) -> Any:
    """Deepstack: both vision layers feed the first two decoder layers."""
    from transformers import Qwen3VLConfig

    text = _text("qwen3_vl_text", tokenizer, tied=True)
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    }
    return Qwen3VLConfig(
        vision_config={**_qwen_vision(), "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]},
        text_config={**text, "head_dim": HEAD_DIM, "rope_parameters": rope},
        tie_word_embeddings=True,
        **_qwen_tokens(tokenizer),
    )


def _llava(_: str, tokenizer: Any) -> Any:
    """Image features come from the second-to-last vision layer, so the last one gets no gradient."""
    from transformers import LlavaConfig

    return LlavaConfig(
        vision_config=_vision(model_type="clip_vision_model", projection_dim=VISION_WIDTH),
        text_config=_text("llama", tokenizer, tied=False),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(TILE // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def _llava_onevision(_: str, tokenizer: Any) -> Any:
    from transformers import LlavaOnevisionConfig

    size = {"image_size": ANYRES_TILE, "patch_size": ANYRES_PATCH}
    return LlavaOnevisionConfig(
        vision_config=_vision(model_type="siglip_vision_model", vision_use_head=False, **size),
        text_config=_text("qwen2", tokenizer, tied=True),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=ANYRES_GRID,
        vision_aspect_ratio="anyres_max_9",
        tie_word_embeddings=True,
    )


def _split(model_type: str, tokenizer: Any) -> Any:
    from transformers import Idefics3Config, SmolVLMConfig

    kind = Idefics3Config if model_type == "idefics3" else SmolVLMConfig
    return kind(
        vision_config=_vision(),
        text_config=_text("llama", tokenizer, tied=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
    )


def _gemma3(_: str, tokenizer: Any) -> Any:
    """Two of three layers attend to the last 16 tokens only; the tokens of an image attend to each other both ways."""
    from transformers import Gemma3Config

    text = _text("gemma3_text", tokenizer, tied=True)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    window = {"sliding_window": SLIDING_WINDOW, "layer_types": kinds}
    return Gemma3Config(
        vision_config=_vision(model_type="siglip_vision_model", vision_use_head=False),
        text_config={**text, "head_dim": HEAD_DIM, "query_pre_attn_scalar": HEAD_DIM, **window},
        mm_tokens_per_image=QUERY_TOKENS,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        tie_word_embeddings=True,
    )


def _qformer(model_type: str, tokenizer: Any) -> Any:
    """InstructBLIP with a Llama, and BLIP-2 with an OPT, which has learned positions."""
    from transformers import Blip2Config, InstructBlipConfig

    queries = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "cross_attention_frequency": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    shared: dict[str, Any] = {
        "vision_config": _vision(),
        "num_query_tokens": QUERY_TOKENS,
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
    }
    if model_type == "instructblip":
        reader = build_tokenizer(Words())
        words = {"vocab_size": len(reader), "pad_token_id": reader.pad_token_id, "max_position_embeddings": 512}
        text = _text("llama", tokenizer, tied=False)
        return InstructBlipConfig(qformer_config={**queries, **words}, text_config=text, **shared)
    text = _text("opt", tokenizer, tied=True)
    opt = {"ffn_dim": INNER, "word_embed_proj_dim": WIDTH, "dropout": 0.0, "layerdrop": 0.0, "activation_dropout": 0.0}
    for key in ("intermediate_size", "num_key_value_heads"):
        del text[key]
    return Blip2Config(qformer_config=queries, text_config={**text, **opt}, **shared)
