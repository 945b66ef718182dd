"""The sizes of published models, as their config.json files on the Hugging Face hub state them (read 2026).

    python benchmarks/shapes.py FOLDER       # FOLDER/internvl3-38b/config.json and so on: no weights

Enough for `seethink doctor --shapes-only` and for benchmarks/scale_on_paper.py, on the meta device.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

INTERN_SMALL = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
INTERN_LARGE = {
    "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25, "intermediate_size": 12800,
    "use_qk_norm": True, "norm_type": "rms_norm",
}  # fmt: skip
QWEN2_7B = {
    "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18944,
}  # fmt: skip
QWEN2_32B = {
    "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8,
    "intermediate_size": 27648,
}  # fmt: skip


def internvl(vision: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    text = {"model_type": "qwen2", "vocab_size": 151674, "max_position_embeddings": 32768} | text
    return {
        "model_type": "internvl",
        "vision_config": {"model_type": "internvl_vision", "image_size": [448, 448], "patch_size": [14, 14]} | vision,
        "text_config": text | {"tie_word_embeddings": False},
        "image_seq_length": 256,
        "tie_word_embeddings": False,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "internvl3-8b": internvl(INTERN_SMALL, QWEN2_7B),
    "internvl3-38b": internvl(INTERN_LARGE, QWEN2_32B),
    "qwen2.5-vl-7b": {
        "model_type": "qwen2_5_vl",
        "text_config": {"model_type": "qwen2_5_vl_text", "vocab_size": 152064} | QWEN2_7B,
        "vision_config": {
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
        },
    },
    "qwen3-vl-8b": {
        "model_type": "qwen3_vl",
        "text_config": {
            "model_type": "qwen3_vl_text", "vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 36,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288,
        },
        "vision_config": {
            "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
}  # fmt: skip


def save_shape(name: str, folder: Path) -> Path:
    """A folder with the config.json of a published model; returns it."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(SHAPES[name], indent=1) + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    for name in SHAPES:
        print(save_shape(name, Path(sys.argv[1])))
