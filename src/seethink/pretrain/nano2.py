"""The second nano model: an InternVL for the second world's pictures of 112 x 112 pixels."""

from __future__ import annotations

from typing import Any

from seethink.pretrain.nano import (
    PATCH_SIZE,
    TOKEN_NAMES,
    build_internvl,
    build_processor,
    text_config,
    vision_config,
    wrap_tokenizer,
)
from seethink.world.v2.canvas import CELL, SIZE
from seethink.world.v2.scene import NUM_CELLS
from seethink.world.v2.words import build_tokenizer_core

assert CELL == 2 * PATCH_SIZE  # so that one image token is one cell

VISION2 = vision_config(SIZE) | {"num_hidden_layers": 4}
TEXT = {"hidden_size": 192, "num_hidden_layers": 5, "num_attention_heads": 6, "intermediate_size": 384}


def build_tokenizer2(token_names: dict[str, str] = TOKEN_NAMES) -> Any:
    """The closed vocabulary of the second world: every word and every number up to 99 is one token."""
    return wrap_tokenizer(build_tokenizer_core(), token_names)


def build_processor2(tokenizer: Any) -> Any:
    """InternVL's processor for the second world's pictures, one tile each."""
    return build_processor(tokenizer, SIZE, NUM_CELLS)


def build_model2(tokenizer: Any, seed: int) -> Any:
    """A randomly initialised second nano in fp32."""
    return build_internvl(tokenizer, seed, VISION2, text_config2(tokenizer), NUM_CELLS)


def text_config2(tokenizer: Any) -> dict[str, Any]:
    """The language model: five layers of Qwen2, 192 wide."""
    return text_config(tokenizer) | TEXT
