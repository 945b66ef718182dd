"""Tiny configurations and processors of the families beyond the first ten; `families.py` builds and saves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers import latest_families
from helpers.family_words import PATCH, QWEN_PLACE, QWEN_TOKENS, QWEN_VIDEO, STATS, TILE, Words

Build = Callable[..., Any]
WIDTH, HEAD_DIM = 128, 32
SLIDING_WINDOW = 16
_GLM = {"image_token": "<|image|>", "video_token": "<|video|>"}
_COHERE = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>")
_OVIS = ("<image>", "<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")

WORDS: dict[str, Words] = {
    "qwen2_vl": Words(QWEN_TOKENS, place=QWEN_PLACE, video=QWEN_VIDEO),
    "qwen3_vl_moe": Words(QWEN_TOKENS, place=QWEN_PLACE, video=QWEN_VIDEO),
    "glm4v": Words(
        ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|image|>", "<|video|>"),
        named=_GLM,
        place="<|begin_of_image|><|image|><|end_of_image|>",
    ),
    "mistral3": Words(("<s>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"), place="[IMG]", bos="<s>"),
    "cohere2_vision": Words(
        _COHERE,
        named={
            "boi_token": _COHERE[0],
            "eoi_token": _COHERE[1],
            "image_token": _COHERE[2],
            "img_line_break_token": _COHERE[3],
        },
        place="<|IMG_PATCH|>",
    ),
    "ovis2": Words(_OVIS, named={"image_token": "<image>"}, place="<image>\n"),
    "deepseek_vl": Words(
        ("<image_placeholder>",), named={"image_token": "<image_placeholder>"}, place="<image_placeholder>"
    ),
    "gemma4": Words(
        ("<bos>", "<|image>", "<|image|>", "<image|>", "<|video|>", "<|audio>", "<|audio|>", "<audio|>"),
        named={
            "boi_token": "<|image>",
            "image_token": "<|image|>",
            "eoi_token": "<image|>",
            "boa_token": "<|audio>",
            "audio_token": "<|audio|>",
            "eoa_token": "<audio|>",
        },
        place="<|image|>",
        bos="<bos>",
        bos_in_template=True,
    ),
    "lfm2_vl": Words(
        ("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"),
        named={"image_token": "<image>"},
        place="<image>",
    ),
    "qwen3_5": Words(QWEN_TOKENS, place=QWEN_PLACE),
    **{name: family.words for name, family in latest_families.FAMILIES.items()},
}


def build_processor(model_type: str, tokenizer: Any, template: str) -> Any:
    import transformers as t

    if model_type in latest_families.FAMILIES:
        return latest_families.FAMILIES[model_type].processor(tokenizer=tokenizer, chat_template=template)
    size = {"height": TILE, "width": TILE}
    common = {"tokenizer": tokenizer, "chat_template": template}
    area = (2 * PATCH) ** 2
    native = {
        "size": {"shortest_edge": 4 * area, "longest_edge": 20 * area},
        "patch_size": PATCH,
        "merge_size": 2,
        "temporal_patch_size": 2,
        **STATS,
    }
    count = (TILE // PATCH) ** 2
    if model_type == "qwen2_vl":
        return t.Qwen2VLProcessor(
            t.Qwen2VLImageProcessor(**native), video_processor=t.Qwen2VLVideoProcessor(**native), **common
        )
    if model_type in ("qwen3_vl_moe", "qwen3_5"):
        return t.Qwen3VLProcessor(
            t.Qwen2VLImageProcessor(**native), video_processor=t.Qwen3VLVideoProcessor(**native), **common
        )
    if model_type == "glm4v":
        return t.Glm4vProcessor(
            t.Glm4vImageProcessor(**native), video_processor=t.Glm4vVideoProcessor(**native), **common
        )
    if model_type == "mistral3":
        images = t.PixtralImageProcessor(
            size={"longest_edge": 2 * TILE}, patch_size={"height": 2 * PATCH, "width": 2 * PATCH}, **STATS
        )
        return t.PixtralProcessor(images, patch_size=PATCH, spatial_merge_size=2, **common)
    if model_type == "cohere2_vision":
        images = t.Cohere2VisionImageProcessor(size=size, max_patches=4, patch_size=TILE // PATCH // 2, **STATS)
        return t.Cohere2VisionProcessor(images, **common)
    if model_type == "ovis2":
        images = t.Ovis2ImageProcessor(size=size, crop_to_patches=True, max_patches=4, **STATS)
        return t.Ovis2Processor(images, image_token="<image>", image_seq_length=count // 4, **common)
    if model_type == "deepseek_vl":
        return t.DeepseekVLProcessor(t.DeepseekVLImageProcessor(size=size, **STATS), num_image_tokens=count, **common)
    if model_type == "gemma4":
        images = t.Gemma4ImageProcessor(patch_size=PATCH, pooling_kernel_size=2, max_soft_tokens=70)
        return t.Gemma4Processor(
            t.Gemma4AudioFeatureExtractor(), images, video_processor=t.Gemma4VideoProcessor(patch_size=PATCH), **common
        )
    if model_type == "lfm2_vl":
        images = t.Lfm2VlImageProcessor(
            tile_size=TILE, encoder_patch_size=PATCH, min_image_tokens=4, max_image_tokens=16, max_tiles=4, **STATS
        )
        return t.Lfm2VlProcessor(images, **common)
    raise KeyError(model_type)


def build_config(model_type: str, tokenizer: Any, text: Build, vision: Build, qwen: dict[str, Any]) -> Any:
    import transformers as t

    if model_type in latest_families.FAMILIES:
        return latest_families.FAMILIES[model_type].config(latest_families.Shapes(tokenizer, text, vision, qwen))
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    tokens = {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }
    if model_type == "qwen2_vl":
        eye = {"depth": 2, "embed_dim": 48, "num_heads": 4, "mlp_ratio": 2, "patch_size": PATCH, "hidden_size": WIDTH}
        words = {
            **text("qwen2_vl_text", tokenizer, tied=False),
            "rope_parameters": {**rope, "mrope_section": [4, 6, 6]},
        }
        return t.Qwen2VLConfig(vision_config=eye, text_config=words, tie_word_embeddings=False, **tokens)
    if model_type == "qwen3_vl_moe":
        words = text("qwen3_vl_moe_text", tokenizer, tied=False)
        words |= {"rope_parameters": {**rope, "mrope_section": [6, 5, 5], "mrope_interleaved": True}}
        words |= {"head_dim": HEAD_DIM, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
        words |= {"norm_topk_prob": True}
        eye = {**qwen, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
        return t.Qwen3VLMoeConfig(vision_config=eye, text_config=words, tie_word_embeddings=False, **tokens)
    if model_type == "qwen3_5":
        words = text("qwen3_5_text", tokenizer, tied=True)
        words |= {
            "rope_parameters": {
                **rope,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "partial_rotary_factor": 0.25,
            }
        }
        words |= {"head_dim": HEAD_DIM, "layer_types": ["linear_attention", "full_attention", "linear_attention"]}
        words |= {
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        }
        eye = {**qwen, "num_position_embeddings": 16}
        return t.Qwen3_5Config(vision_config=eye, text_config=words, tie_word_embeddings=True, **tokens)
    if model_type == "glm4v":
        half = {**rope, "partial_rotary_factor": 0.5, "mrope_section": [2, 3, 3]}
        words = {**text("glm4v_text", tokenizer, tied=False), "rope_parameters": half, "attention_bias": True}
        eye = {**qwen, "image_size": TILE}
        marks = {
            "image_token_id": "<|image|>",
            "video_token_id": "<|video|>",
            "image_start_token_id": "<|begin_of_image|>",
            "image_end_token_id": "<|end_of_image|>",
            "video_start_token_id": "<|begin_of_video|>",
            "video_end_token_id": "<|end_of_video|>",
        }
        return t.Glm4vConfig(
            vision_config=eye, text_config=words, tie_word_embeddings=False, **{k: ids(v) for k, v in marks.items()}
        )
    if model_type == "mistral3":
        eye = {**vision(model_type="pixtral", image_size=2 * TILE), "head_dim": 12}
        return t.Mistral3Config(
            vision_config=eye,
            text_config={**text("mistral", tokenizer, tied=False), "head_dim": HEAD_DIM, "sliding_window": None},
            image_token_index=ids("[IMG]"),
            tie_word_embeddings=False,
        )
    if model_type == "cohere2_vision":
        words = {**text("cohere2", tokenizer, tied=True), "sliding_window": SLIDING_WINDOW}
        words |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
        return t.Cohere2VisionConfig(
            vision_config=vision(model_type="siglip_vision_model", vision_use_head=False),
            text_config=words,
            image_token_id=ids("<|IMG_PATCH|>"),
            downsample_factor=2,
            alignment_intermediate_size=96,
        )
    if model_type == "ovis2":
        eye = {**vision(), "vocab_size": 64, "hidden_stride": 2, "num_visual_indicator_tokens": 5}
        return t.Ovis2Config(
            vision_config=eye,
            text_config=text("qwen2", tokenizer, tied=True),
            hidden_size=WIDTH,
            vocab_size=len(tokenizer),
            image_token_id=ids("<IMG_ATOM>"),
            visual_indicator_token_ids=[ids(w) for w in _OVIS[2:]],
        )
    if model_type == "deepseek_vl":
        return t.DeepseekVLConfig(
            vision_config=vision(model_type="siglip_vision_model", vision_use_head=False),
            text_config=text("llama", tokenizer, tied=False),
            image_token_id=ids("<image_placeholder>"),
            tie_word_embeddings=False,
        )
    if model_type == "gemma4":
        words = text("gemma4_text", tokenizer, tied=True)
        words |= {"head_dim": HEAD_DIM, "sliding_window": SLIDING_WINDOW, "vocab_size_per_layer_input": len(tokenizer)}
        words |= {
            "hidden_size_per_layer_input": 8,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,  # the last two take the keys and values of the first two
            "global_head_dim": 2 * HEAD_DIM,
            "use_bidirectional_attention": "vision",
        }
        words |= {"pad_token_id": 0}  # as published: vLLM gives image tokens the per-layer embeddings of id 0
        words |= {"final_logit_softcapping": 4.0}  # 30 in published models, whose logits are larger
        eye = {
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": PATCH,
        }
        eye |= {"num_key_value_heads": 4, "head_dim": 12, "pooling_kernel_size": 2, "position_embedding_size": 256}
        eye |= {"default_output_length": 70}
        return t.Gemma4Config(
            vision_config={**eye, "model_type": "gemma4_vision"},
            text_config=words,
            audio_config=None,
            boi_token_id=ids("<|image>"),
            image_token_id=ids("<|image|>"),
            eoi_token_id=ids("<image|>"),
            video_token_id=ids("<|video|>"),
            audio_token_id=None,
            boa_token_id=None,
            eoa_token_index=None,
        )
    if model_type == "lfm2_vl":
        words = text("lfm2", tokenizer, tied=True) | {
            "layer_types": ["conv", "full_attention", "conv"],
            "block_multiple_of": 32,
            "conv_dim": WIDTH,
            "block_dim": WIDTH,
            "block_ff_dim": 192,
        }
        eye = vision(model_type="siglip2_vision_model", vision_use_head=False) | {"num_patches": 16}
        return t.Lfm2VlConfig(
            vision_config=eye, text_config=words, image_token_id=ids("<image>"), projector_hidden_size=96
        )
    raise KeyError(model_type)
