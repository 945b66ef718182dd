"""Which vision-language classes of the installed transformers work: listed, found by their structure, or refused.

Each class is built from its default configuration on the meta device, where weights cost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import torch
from rich.table import Table
from rich.text import Text

from seethink.models.load import prepare_transformers
from seethink.models.parts import FAMILIES, Family, PartsError, family_of, split_parts
from seethink.models.structure import find_family

Verdict = Literal["listed", "found", "refused"]
HEAD = (
    "# Model types",
    "",
    "Made by `seethink families --markdown`, from the default configuration of every class with which transformers "
    "makes text of pictures; no weights are read.",
    "",
    "- **listed**: in the family table, and each stage is tested on it ([families](families.md)).",
    "- **found**: its parts are told from its structure. Each model is proven when it is loaded: on one picture, "
    "vision feeds connector and connector feeds language, and its logits are those of transformers' own forward. What "
    "fails is refused with the reason; nothing trains on a guess. `seethink parts MODEL` shows what was found and why.",
    "- **refused**: its structure does not tell, for the reason given.",
    "",
)

_KINDS = ("full_attention", "sliding_attention")
COMPLETIONS: dict[str, dict[str, Any]] = {
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model"}},
    "chameleon": {"vocabulary_map": {"<image>": 4}},
    "cohere_compass": {
        "text_config": {"rope_parameters": {k: {"rope_type": "default", "rope_theta": 1e4} for k in _KINDS}},
        "vision_config": {"out_hidden_size": 8192},
    },
    "cosmos3_omni": {"vision_config": {"out_hidden_size": 4096}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense"] * 2, "num_hidden_layers": 2}},
    "diffusion_gemma": {
        "text_config": {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 512},
        "vision_config": {"model_type": "gemma4_vision"},
    },
    "emu3": {"vocabulary_map": {"<image>": 4}},
    "exaone4_5": {"vision_config": {"out_hidden_size": 4096}},
    "gemma4": {"vision_config": {}},
    "gemma4_unified": {"vision_config": {}},
    "glm5_next": {"vision_config": {"out_hidden_size": 4096}},
    "granite4_vision": {
        "text_config": {"model_type": "granite4_vision_text"},
        "downsample_rate": "4/8",
        "deepstack_layer_map": [[-2, 0]],
    },
    "hunyuan_vl": {"text_config": {"head_dim": 128}},
    "ovis2": {"hidden_size": 4096},
    "qwen2_vl": {"vision_config": {"hidden_size": 8192}},
    "qwen3_5": {"vision_config": {"out_hidden_size": 4096}},
    "qwen3_5_moe": {"vision_config": {"out_hidden_size": 2048}},
    "qwen3_vl_moe": {"vision_config": {"out_hidden_size": 2048}},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 4,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 256,
            "indexer_budget": 2048,
            "indexer_compress_ratio": 4,
        },
        "vision_config": {"out_hidden_size": 2048},
    },
    "vision-encoder-decoder": {"encoder": {"model_type": "vit"}, "decoder": {"model_type": "gpt2"}},
}
"""What the default configurations leave out, or where their parts do not fit together; published models do."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """One class of the table."""

    model_type: str
    model_class: str
    verdict: Verdict
    why: str
    """Where the parts are, or why they cannot be told."""


def model_classes() -> dict[str, str]:
    """Model type -> class, of everything that transformers makes text of pictures with."""
    prepare_transformers()
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return dict(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def coverage() -> Iterator[Coverage]:
    """A row for each class; about half a minute for all."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    for model_type, model_class in model_classes().items():
        yield Coverage(model_type, model_class, *verdict(model_type))


def verdict(model_type: str) -> tuple[Verdict, str]:
    """What is said of one model type, and why."""
    if model_type in FAMILIES:
        family = FAMILIES[model_type]
        return "listed", f"{_shown(family)}; {family.positions}"
    try:
        model = default_model(model_type)
    except ImportError as error:
        return "refused", f"it needs the package {_package(error)}, which seethink does not install"
    except Exception as error:  # a configuration for which transformers itself has no such class
        return "refused", f"transformers makes no model of its configuration: {type(error).__name__}"
    try:
        model.seethink_family = find_family(model)
        split_parts(model)
    except PartsError as reason:
        return "refused", str(reason)
    family = family_of(model)
    return "found", f"{_shown(family)}; {family.positions}"


def _shown(family: Family) -> str:
    """`vision` → `connector` → `language`."""
    parts = (family.vision, family.connector, family.language[:1])
    return " → ".join(", ".join(f"`{path}`" for path in paths) for paths in parts)


def _package(error: ImportError) -> str:
    """The package that transformers misses, of its own long message."""
    words = str(error).split()
    return words[words.index("the") + 1] if "the" in words else (error.name or "that is missing")


def default_model(model_type: str) -> Any:
    """The model of a model type's default configuration, completed where it must be, on the meta device."""
    prepare_transformers()
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type](**COMPLETIONS.get(model_type, {}))
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def as_table(rows: list[Coverage]) -> Table:
    """For people at a terminal."""
    table = Table("model type", "verdict", "where its parts are, or why they cannot be told", box=None, pad_edge=False)
    for row in rows:
        style = {"listed": "green", "found": "cyan", "refused": "dim"}[row.verdict]
        table.add_row(Text(row.model_type), Text(row.verdict, style=style), Text(row.why.replace("`", "")))
    return table


def as_markdown(rows: list[Coverage]) -> str:
    """The page docs/model_types.md."""
    counts = Counter(row.verdict for row in rows)
    said = ", ".join(f"{counts[name]} {name}" for name in ("listed", "found", "refused"))
    lines = [*HEAD, f"{len(rows)} model types of transformers {version('transformers')}: {said}.", ""]
    lines += ["| model type | class | verdict | where its parts are, or why they cannot be told |", "|---|---|---|---|"]
    lines += [f"| `{r.model_type}` | `{r.model_class}` | {r.verdict} | {r.why} |" for r in rows]
    return "\n".join(lines) + "\n"
