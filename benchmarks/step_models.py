"""Model folders of the step benchmark: InternVL with random weights, in the nano model's shapes and in larger ones.

`nano` has the layers and widths of the packaged nano model (1.4M parameters), `mid` about 28M. The tokenizer,
processor and template are the nano model's; only the image size differs, so that a prompt of P tokens is mostly
image: one picture of 112 pixels (16 tokens) for P = 32, one of 280 (100 tokens) for 128, four of 308 (121 tokens
each) for 512. Filler words bring a prompt to exactly P tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from step_work import Cell

TEMPLATE_TOKENS, IMAGE_FRAME = 8, 3
"""Tokens of the chat template around a turn; `<img>`, `</img>` and a newline around an image."""
LAYOUTS = ((64, 112, 1), (96, 168, 1), (256, 280, 1), (10_000, 308, 0))
"""(prompts up to this length, pixels a side, images); 0: as many as fit."""
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "nano": {"vision": {}, "text": {"max_position_embeddings": 4096}},
    "mid": {
        "vision": {
            "hidden_size": 256,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "intermediate_size": 1024,
        },
        "text": {
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "intermediate_size": 1024,
            "vocab_size": 8192,
            "max_position_embeddings": 4096,
        },
    },
}


def make_cell(model: str, group: int, prompt: int, response: int, prompts: int, layout: tuple[int, int] | None) -> Cell:
    """`layout` is (pixels, images) where the length should not decide it."""
    pixels, images = layout or next((px, n) for limit, px, n in LAYOUTS if prompt <= limit)
    per_image = (pixels // 28) ** 2 + IMAGE_FRAME
    images = images or (prompt - TEMPLATE_TOKENS - 1) // per_image
    words = prompt - TEMPLATE_TOKENS - images * per_image
    if words < 1:
        raise SystemExit(f"{images} images of {pixels} pixels do not fit into a prompt of {prompt} tokens")
    return Cell(model, group, prompt, response, prompts, pixels, images, words)


def model_folder(root: Path, cell: Cell) -> Path:
    """The folder of the cell's model, made on first use."""
    folder = root / f"{cell.model}-{cell.image_px}"
    if not (folder / "model.safetensors").exists():
        _build(folder, cell.model, cell.image_px)
    return folder


def _build(folder: Path, name: str, pixels: int) -> None:
    import torch

    from seethink.models.load import NANO, load_model

    nano = load_model("nano")
    table = json.loads((NANO / "config.json").read_text(encoding="utf-8"))
    table["vision_config"] |= SHAPES[name]["vision"] | {"image_size": [pixels, pixels]}
    table["text_config"] |= SHAPES[name]["text"]
    table["text_config"]["layer_types"] = ["full_attention"] * table["text_config"]["num_hidden_layers"]
    table["image_seq_length"] = (pixels // 28) ** 2
    torch.manual_seed(0)
    model = type(nano.model)(type(nano.model.config)(**table))
    model.generation_config.eos_token_id = table["eos_token_id"]
    model.generation_config.pad_token_id = table["pad_token_id"]
    processor = nano.chat.processor
    processor.image_seq_length = table["image_seq_length"]
    processor.image_processor.size = {"height": pixels, "width": pixels}
    processor.save_pretrained(folder)
    model.save_pretrained(folder)
