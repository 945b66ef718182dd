"""Tiny configurations and processors of the mixtures of experts and of other families that came last to the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helpers.family_words import PATCH, QWEN_PLACE, QWEN_TOKENS, STATS, TILE, Words

WIDTH, HEAD_DIM = 128, 32
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
COUNT = (TILE // PATCH) ** 2
"""Patches of a view of the usual size."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the configurations of all families share (`families.py`)."""

    tokenizer: Any
    text: Callable[..., dict[str, Any]]
    vision: Callable[..., dict[str, Any]]
    qwen: dict[str, Any]

    def id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))


@dataclass(frozen=True, slots=True)
class Tiny:
    """One family."""

    words: Words
    processor: Callable[..., Any]
    """Of keyword arguments `tokenizer` and `chat_template`."""
    config: Callable[[Shapes], Any]


def _native() -> dict[str, Any]:
    """Pictures at native size: 4 to 20 tokens of 2 x 2 patches."""
    area = (2 * PATCH) ** 2
    size = {"shortest_edge": 4 * area, "longest_edge": 20 * area}
    return {"size": size, "patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, **STATS}


def _qwen3_5_moe_processor(**common: Any) -> Any:
    import transformers as t

    videos = t.Qwen3VLVideoProcessor(**_native())
    return t.Qwen3VLProcessor(t.Qwen2VLImageProcessor(**_native()), video_processor=videos, **common)


def _hybrid(model_type: str, shapes: Shapes) -> dict[str, Any]:
    """Qwen3.5's language model: linear attention in two layers of three."""
    rope = {**ROPE, "mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.25}
    words = shapes.text(model_type, shapes.tokenizer, tied=False) | {"rope_parameters": rope}
    words |= {"head_dim": HEAD_DIM, "layer_types": ["linear_attention", "full_attention", "linear_attention"]}
    words |= {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
    words |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    return words


def _qwen3_5_moe(shapes: Shapes) -> Any:
    import transformers as t

    words = _hybrid("qwen3_5_moe_text", shapes)
    del words["intermediate_size"]
    words |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    words |= {"shared_expert_intermediate_size": 64}
    return t.Qwen3_5MoeConfig(
        vision_config={**shapes.qwen, "num_position_embeddings": 16},
        text_config=words,
        tie_word_embeddings=False,
        image_token_id=shapes.id("<|image_pad|>"),
        video_token_id=shapes.id("<|video_pad|>"),
        vision_start_token_id=shapes.id("<|vision_start|>"),
        vision_end_token_id=shapes.id("<|vision_end|>"),
    )


_GLM_WORDS = Words(
    ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|image|>", "<|video|>"),
    named={"image_token": "<|image|>", "video_token": "<|video|>"},
    place="<|begin_of_image|><|image|><|end_of_image|>",
)


def _glm_ids(shapes: Shapes) -> dict[str, int]:
    ids = {f"{kind}_token_id": shapes.id(f"<|{kind}|>") for kind in ("image", "video")}
    for kind in ("image", "video"):
        ids |= {f"{kind}_{end}_token_id": shapes.id(f"<|{at}_of_{kind}|>") for end, at in _GLM_ENDS}
    return ids


_GLM_ENDS = (("start", "begin"), ("end", "end"))


def _glm46v_processor(**common: Any) -> Any:
    import transformers as t

    videos = t.Glm46VVideoProcessor(**_native())
    return t.Glm46VProcessor(t.Glm46VImageProcessor(**_native()), video_processor=videos, **common)


def _glm46v(shapes: Shapes) -> Any:
    import transformers as t

    words = shapes.text("glm4v_text", shapes.tokenizer, tied=False)
    words |= {"rope_parameters": {**ROPE, "mrope_section": [4, 6, 6]}}
    eye = {**shapes.qwen, "image_size": TILE}
    return t.Glm46VConfig(vision_config=eye, text_config=words, tie_word_embeddings=False, **_glm_ids(shapes))


def _glm4v_moe_processor(**common: Any) -> Any:
    import transformers as t

    videos = t.Glm4vVideoProcessor(**_native())
    return t.Glm4vProcessor(t.Glm4vImageProcessor(**_native()), video_processor=videos, **common)


def _glm4v_moe(shapes: Shapes) -> Any:
    """One dense layer, then two whose router adds a correction bias that gets no gradient."""
    import transformers as t

    rope = {**ROPE, "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}
    words = shapes.text("glm4v_moe_text", shapes.tokenizer, tied=False) | {"rope_parameters": rope}
    words |= {"head_dim": HEAD_DIM, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    words |= {"use_qk_norm": False, "attention_bias": True}
    eye = {**shapes.qwen, "image_size": TILE}
    return t.Glm4vMoeConfig(vision_config=eye, text_config=words, tie_word_embeddings=False, **_glm_ids(shapes))


_AYA = ("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL")


def _aya_processor(**common: Any) -> Any:
    import transformers as t

    size = {"height": TILE, "width": TILE}
    images = t.GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4, **STATS)
    return t.AyaVisionProcessor(images, patch_size=PATCH, img_size=TILE, downsample_factor=2, **common)


def _aya(shapes: Shapes) -> Any:
    import transformers as t

    words = shapes.text("cohere2", shapes.tokenizer, tied=True) | {"sliding_window": 16}
    words |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    return t.AyaVisionConfig(
        vision_config=shapes.vision(model_type="siglip_vision_model", vision_use_head=False),
        text_config=words,
        image_token_index=shapes.id("<|IMG_PATCH|>"),
        downsample_factor=2,
    )


_KIMI = ("<|media_begin|>", "<|media_content|>", "<|media_end|>", "<|media_pad|>", "<|kimi_k25_video_placeholder|>")


def _kimi_processor(**common: Any) -> Any:
    import transformers as t

    layout = {"patch_size": PATCH, "merge_size": 2, **STATS}
    size = {"max_height": 10, "max_width": 10}
    images = t.Kimi_K25ImageProcessor(size=size, max_patches=80, **layout)
    videos = t.Kimi_K25VideoProcessor(size=size, max_patches=80, **layout)
    return t.Kimi_K25Processor(images, video_processor=videos, **common)


def _kimi(shapes: Shapes) -> Any:
    """DeepSeek-V3: keys and values through a low rank, queries and keys wider than values, experts after one layer."""
    import transformers as t

    words = shapes.text("deepseek_v3", shapes.tokenizer, tied=False) | {"num_key_value_heads": 4}
    words |= {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 24}
    words |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    words |= {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "rope_parameters": ROPE}
    eye = {"patch_size": PATCH, "pos_emb_height": 4, "pos_emb_width": 4, "hidden_size": 48, "intermediate_size": 96}
    eye |= {"num_hidden_layers": 2, "num_attention_heads": 4, "merge_kernel_size": [2, 2]}
    return t.Kimi_K25Config(
        vision_config=eye,
        text_config=words,
        projection_hidden_size=48,
        tie_word_embeddings=False,
        image_token_id=shapes.id("<|media_pad|>"),
        video_token_id=shapes.id("<|kimi_k25_video_placeholder|>"),
        vision_start_token_id=shapes.id("<|media_begin|>"),
        vision_end_token_id=shapes.id("<|media_end|>"),
    )


_MINICPM = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}


def _minicpm_processor(**common: Any) -> Any:
    """A whole view of 4 tokens and up to four slices of 4."""
    import transformers as t

    layout = {"scale_resolution": 8 * PATCH, "patch_size": PATCH, "max_slice_nums": 4, **STATS}
    videos = t.MiniCPMV4_6VideoProcessor(**layout)
    return t.MiniCPMV4_6Processor(t.MiniCPMV4_6ImageProcessor(**layout), video_processor=videos, **common)


def _minicpm(shapes: Shapes) -> Any:
    import transformers as t

    words = _hybrid("qwen3_5_text", shapes)
    return t.MiniCPMV4_6Config(
        vision_config=shapes.vision(image_size=8 * PATCH),
        text_config=words,
        insert_layer_id=0,
        image_size=8 * PATCH,
        image_token_id=shapes.id("<|image_pad|>"),
        video_token_id=shapes.id("<|video_pad|>"),
        tie_word_embeddings=False,
    )


_LLAMA4 = ("<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>")


def _llama4_processor(**common: Any) -> Any:
    import transformers as t

    images = t.Llama4ImageProcessor(
        size={"height": TILE, "width": TILE}, max_patches=4, resize_to_max_canvas=False, **STATS
    )
    return t.Llama4Processor(images, patch_size=PATCH, **common)


def _llama4(shapes: Shapes) -> Any:
    """Layers that see their own chunk of 16 tokens alone, and one without rotary positions that sees all."""
    import transformers as t

    words = shapes.text("llama4_text", shapes.tokenizer, tied=False)
    words |= {"intermediate_size": 64, "intermediate_size_mlp": 192, "head_dim": HEAD_DIM, "num_local_experts": 4}
    words |= {"interleave_moe_layer_step": 2, "no_rope_layers": [1, 0, 1], "attention_chunk_size": 16}
    words |= {"floor_scale": 16, "rope_parameters": ROPE}
    eye = shapes.vision(model_type="llama4_vision_model", vision_output_dim=64, projector_input_dim=64)
    eye |= {"intermediate_size": 192, "projector_output_dim": 64, "rope_parameters": ROPE}
    return t.Llama4Config(
        vision_config=eye,
        text_config=words,
        boi_token_index=shapes.id("<|image_start|>"),
        eoi_token_index=shapes.id("<|image_end|>"),
        image_token_index=shapes.id("<|patch|>"),
        tie_word_embeddings=False,
    )


FAMILIES: dict[str, Tiny] = {
    "qwen3_5_moe": Tiny(Words(QWEN_TOKENS, place=QWEN_PLACE), _qwen3_5_moe_processor, _qwen3_5_moe),
    "glm46v": Tiny(_GLM_WORDS, _glm46v_processor, _glm46v),
    "glm4v_moe": Tiny(_GLM_WORDS, _glm4v_moe_processor, _glm4v_moe),
    "aya_vision": Tiny(Words(_AYA, named={"image_token": "<image>"}, place="<image>"), _aya_processor, _aya),
    "kimi_k25": Tiny(
        Words(
            _KIMI,
            named={"image_token": _KIMI[3], "video_token": _KIMI[4]},
            place="<|media_begin|>image<|media_content|><|media_pad|><|media_end|>",
        ),
        _kimi_processor,
        _kimi,
    ),
    "minicpmv4_6": Tiny(
        Words(tuple(_MINICPM.values()), named=_MINICPM, place="<|image_pad|>"), _minicpm_processor, _minicpm
    ),
    "llama4": Tiny(Words(("<|begin_of_text|>", *_LLAMA4), place="<|image|>"), _llama4_processor, _llama4),
}
