"""Where each family keeps its vision encoder, its connector and its language model. The only family table.

A family that is not listed is found by its structure (structure.py) or stated by the recipe's `[parts.modules]`. Every
parameter is in exactly one part; where one part lies inside another (a merger inside the vision tower), the deeper path
owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from seethink.config import PARTS, Part, PartModules
from seethink.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Family:
    """Module paths by part (globs), and what training and decoding must know about the architecture."""

    vision: tuple[str, ...]
    connector: tuple[str, ...]
    language: tuple[str, ...]
    image_tokens: tuple[str, ...]
    """Never sampled: a stray one makes image features and image tokens disagree."""
    connector_kind: str = "unknown"
    images: str = "as its processor does"
    """How an image becomes tokens, and how many."""
    positions: Literal["1-D", "M-RoPE"] = "1-D"
    token_types: str | None = None
    """Keyword under which the forward wants 1 for image tokens and 0 for text (Gemma 3's two-way image blocks)."""
    body: Literal["model", "language_model"] = "model"
    """`model`: the base model takes ids and images. `language_model`: the images are embedded first (Q-Formers)."""
    packs: bool = True
    """Several sequences may share a row, told apart by restarting positions."""
    max_images: int | None = None
    """Images that one sample may have; None: any number."""
    videos: bool = False
    """Whether samples may have videos, through the family's own path in transformers."""
    evidence: tuple[str, ...] = ()
    """Why each part is held for what it is, where models/structure.py found the parts."""

    def paths(self, part: Part) -> tuple[str, ...]:
        return {"vision": self.vision, "connector": self.connector, "language": self.language}[part]


_LLAVA = Family(
    vision=("model.vision_tower",),
    connector=("model.multi_modal_projector",),
    language=("model.language_model", "lm_head"),
    image_tokens=("<image>",),
    connector_kind="MLP",
    images="one square view; (size / patch)^2 tokens (576 at 336 pixels)",
)
_QWEN = Family(
    videos=True,
    vision=("model.visual",),
    connector=("model.visual.merger",),
    language=("model.language_model", "lm_head"),
    image_tokens=("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    connector_kind="patch merger (MLP over 2x2 patches)",
    images="native size; height x width / (patch * merge)^2 tokens, min_pixels to max_pixels",
    positions="M-RoPE",
)
_GLM = replace(
    _QWEN,
    videos=False,  # its processor writes frames with the token of images: their places alone do not tell them apart
    connector=("model.visual.downsample", "model.visual.merger"),
    image_tokens=tuple(f"<|{kind}|>" for kind in ("image", "video", "*_of_image", "*_of_video")),
    connector_kind="2x2 convolution + gated MLP",
)
_HYBRID_QWEN = replace(_QWEN, videos=False, packs=False)  # linear attention carries its state across sequences
_SLICES = ("image", "slice", "image_id")
_IDEFICS = Family(
    vision=("model.vision_model",),
    connector=("model.connector",),
    language=("model.text_model", "lm_head"),
    image_tokens=("<image>", "<fake_token_around_image>", "<global-img>", "<row_*_col_*>"),
    connector_kind="pixel shuffle + linear",
    images="split into square tiles and a whole view; (tile / patch / scale_factor)^2 tokens per tile",
)
_Q_FORMER = Family(
    vision=("vision_model",),
    connector=("query_tokens", "qformer", "language_projection"),
    language=("language_model",),
    image_tokens=("<image>",),
    connector_kind="Q-Former",
    images="one square view, num_query_tokens tokens (32)",
    body="language_model",
    packs=False,
)

FAMILIES: dict[str, Family] = {
    "internvl": replace(
        _LLAVA,
        videos=True,
        image_tokens=("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
        connector_kind="pixel unshuffle + MLP",
        images="1 to max_patches tiles and a thumbnail; image_seq_length tokens per tile (256 at 448 pixels)",
    ),
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": replace(
        _QWEN,
        connector=("model.visual.merger", "model.visual.deepstack_merger_list"),
        connector_kind="patch merger, and one for each DeepStack layer",
    ),
    "llava": _LLAVA,
    "llava_onevision": replace(
        _LLAVA,
        connector=("model.multi_modal_projector", "model.image_newline"),
        image_tokens=("<image>", "<video>"),
        connector_kind="MLP, and a newline vector",
        images="one image: a whole view and a grid of tiles, unpadded, a newline per row; several: one view each",
    ),
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "gemma3": replace(
        _LLAVA,
        image_tokens=("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
        connector_kind="average pooling + linear",
        images="one square view, mm_tokens_per_image tokens (256); image tokens see each other both ways",
        token_types="token_type_ids",
    ),
    "instructblip": replace(
        _Q_FORMER,
        images="one square view, num_query_tokens tokens (32), conditioned on the question",
        max_images=1,
    ),
    "blip-2": _Q_FORMER,
    "qwen2_vl": _QWEN,
    "qwen3_vl_moe": replace(
        _QWEN,
        connector=("model.visual.merger", "model.visual.deepstack_merger_list"),
        connector_kind="patch merger, and one for each DeepStack layer",
    ),
    "glm4v": _GLM,
    "mistral3": replace(
        _LLAVA,
        image_tokens=("[[]IMG]", "[[]IMG_BREAK]", "[[]IMG_END]"),
        connector_kind="patch merger + MLP",
        images="native size up to the longest edge; height x width / (patch * merge)^2 tokens and a break per row",
    ),
    "cohere2_vision": replace(
        _LLAVA,
        image_tokens=("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"),
        connector_kind="pixel shuffle + gated MLP",
        images="1 to max_patches tiles and a thumbnail; patch_size^2 tokens per tile (256)",
    ),
    "ovis2": replace(
        _LLAVA,
        connector=("model.visual_embeddings_table",),
        image_tokens=("<image>", "<IMG_*>"),
        connector_kind="table of visual words, mixed by probability",
        images="1 to max_patches tiles and a whole view; image_seq_length tokens per tile (256)",
    ),
    "deepseek_vl": replace(
        _LLAVA,
        vision=("model.vision_model",),
        connector=("model.aligner",),
        image_tokens=("<image_placeholder>",),
        images="one padded square view, num_image_tokens tokens (576)",
    ),
    "gemma4": replace(
        _LLAVA,
        connector=("model.embed_vision",),
        image_tokens=("<|image>", "<|image|>", "<image|>", "<|video|>"),
        connector_kind="average pooling + linear",
        images="native shape; up to max_soft_tokens tokens (280)",
        token_types="mm_token_type_ids",
    ),
    "aya_vision": replace(
        _LLAVA,
        image_tokens=("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"),
        connector_kind="pixel shuffle + gated MLP",
        images="1 to max_patches tiles and a thumbnail; (side / patch / downsample_factor)^2 tokens per tile (169)",
    ),
    "glm46v": _GLM,
    "glm4v_moe": _GLM,
    "kimi_k25": replace(
        _LLAVA,
        connector=("model.mm_projector",),
        image_tokens=("<|media_*|>", "<|kimi_k25_video_placeholder|>"),
        connector_kind="patch merger (MLP over 2x2 patches)",
        images="native size, padded to whole tokens; height x width / (patch * merge)^2 tokens, max_patches at most",
    ),
    "qwen3_5": _HYBRID_QWEN,
    "qwen3_5_moe": _HYBRID_QWEN,
    "minicpmv4_6": replace(
        _LLAVA,
        connector=("model.merger",),
        image_tokens=("<|image_pad|>", "<|video_pad|>", *(f"<{end}{kind}>" for kind in _SLICES for end in ("", "/"))),
        connector_kind="patch merger (MLP over 2x2 patches)",
        images="a whole view and up to max_slice_nums slices; (side / patch / 4)^2 tokens of each (64)",
        packs=False,
    ),
    "llama4": Family(
        vision=("vision_model",),
        connector=("multi_modal_projector",),
        language=("language_model",),
        image_tokens=("<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_*_separator|>"),
        connector_kind="linear (pixel shuffle and MLP are the vision encoder's)",
        images="up to max_patches tiles and a whole view; (tile / patch * pixel_shuffle_ratio)^2 tokens per tile (144)",
        body="language_model",
        packs=False,
    ),
    "lfm2_vl": replace(
        _LLAVA,
        image_tokens=("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", "<|img_row_*_col_*|>"),
        connector_kind="pixel unshuffle + MLP",
        images="native size or tiles and a thumbnail; (tile / patch / downsample_factor)^2 tokens per tile (256)",
        packs=False,  # as do convolutions
    ),
}


class PartsError(UserError):
    """A model whose parts cannot be told apart."""


def family_of(model: nn.Module) -> Family:
    """The table's entry, or what `use_modules` attached. Raises PartsError."""
    attached = getattr(model, "seethink_family", None)
    if attached is not None:
        return attached  # type: ignore[no-any-return]
    model_type = str(model.config.model_type)  # type: ignore[union-attr]
    if model_type not in FAMILIES:
        raise PartsError(
            f"no parts table for model type {model_type!r}; known: {', '.join(sorted(FAMILIES))}. For another, name "
            "its modules in the recipe's [parts.modules] (`seethink parts MODEL` lists them)"
        )
    return FAMILIES[model_type]


def use_modules(model: nn.Module, modules: PartModules) -> None:
    """Let the recipe's module patterns stand for the table. Raises PartsError where they do not cover the model."""
    base = getattr(model, "model", None)
    model.seethink_family = Family(  # type: ignore[assignment]
        modules.vision,
        modules.connector,
        modules.language,
        modules.image_tokens,
        positions="M-RoPE" if hasattr(base, "get_rope_index") else "1-D",
        packs=False,
    )
    split_parts(model)


def banned_token_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids that sampling must never emit: the family's image tokens and every image or video id of the config."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    ids = [
        vocabulary[token]
        for pattern in family_of(model).image_tokens
        for token in ([pattern] if pattern in vocabulary else sorted(t for t in vocabulary if fnmatchcase(t, pattern)))
    ]
    config = model.config.to_dict()
    names = [n for n in config if n.endswith(("_token_id", "_token_index")) and n.split("_")[0] in _MEDIA]
    return tuple(dict.fromkeys([*ids, *(config[n] for n in names if isinstance(config[n], int) and config[n] >= 0)]))


_MEDIA = ("image", "video", "vision", "boi", "eoi")


def split_parts(model: nn.Module) -> dict[Part, dict[str, nn.Parameter]]:
    """Every parameter in exactly one part, by name. Tied parameters count once.

    Raises PartsError where a path matches nothing, a parameter is in no part, or two parts claim it.
    """
    family = family_of(model)
    parts: dict[Part, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    orphans: list[str] = []
    for name, parameter in model.named_parameters():
        owners = owners_of(name, family)
        if len(owners) > 1:
            raise PartsError(f"parameter {name!r} is claimed by {' and '.join(owners)}; it must be in exactly one part")
        if owners:
            parts[owners[0]][name] = parameter
        else:
            orphans.append(name)
    if orphans:
        raise PartsError(f"parameter {orphans[0]!r} belongs to no part, nor do {len(orphans) - 1} others")
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        raise PartsError(
            f"no parameters in {', '.join(empty)}: no module is named "
            f"{', '.join(path for part in empty for path in family.paths(part))}"
        )
    return parts


def owners_of(name: str, family: Family) -> list[Part]:
    """The part with the deepest matching path; several where they match equally deep."""
    depth = {part: _depth(name, family.paths(part)) for part in PARTS}
    deepest = max(depth.values())
    return [part for part in PARTS if depth[part] == deepest > 0]


def _depth(name: str, patterns: Sequence[str]) -> int:
    """How many leading components of `name` the longest matching pattern covers."""
    components = name.split(".")
    prefixes = [".".join(components[:n]) for n in range(len(components), 0, -1)]
    return next((p.count(".") + 1 for p in prefixes if any(fnmatchcase(p, pattern) for pattern in patterns)), 0)
