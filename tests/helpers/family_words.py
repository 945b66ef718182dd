"""What the tiny models and processors of all families share: special tokens, sizes of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOLDEN_TOKENIZER = Path(__file__).resolve().parents[1] / "data" / "golden" / "tokenizer" / "tokenizer.json"
EOS, PAD = "<|im_end|>", "<|endoftext|>"
SHARED_TOKENS = (PAD, "<|im_start|>", EOS)
THINK_TOKENS = ("<think>", "</think>")
NEWLINES = ("\n", "\n\n", "\n\n\n", "\n\n\n\n")
"""Gemma 3 has tokens for 1 to 31 newlines in a row; vLLM's implementation asks for the first four."""

TILE = 28
"""Side of the pictures that the fixed-size vision towers take, in pixels."""
PATCH = 7
QUERY_TOKENS = 4
"""Image tokens of the families with a Q-Former, and of Gemma 3."""
STATS: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}

ANYRES_TILE, ANYRES_PATCH = 36, 12
ANYRES_GRID = [[h, w] for h in (36, 72) for w in (36, 72)]

ROWS_COLS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
SPLIT_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *ROWS_COLS)
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_PLACE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of one family."""

    tokens: tuple[str, ...] = ()
    """Special tokens besides `SHARED_TOKENS`."""
    named: dict[str, str] = field(default_factory=dict)
    """Tokens that the family's processor reads as attributes of the tokenizer."""
    place: str = ""
    """What the chat template writes for an image; empty if the processor itself prepends the image tokens."""
    video: str = ""
    """What the chat template writes for a video; empty where it knows none."""
    bos: str | None = None
    """Prepended by the tokenizer."""
    bos_in_template: bool = False
    """Whether the chat template writes it too, as in the published checkpoint; encoding the text then doubles it."""
    text: tuple[str, ...] = ()
    """Pieces of plain text that are one token each."""
