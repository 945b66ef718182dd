"""Relatives of a nano base: another architecture, another connector, weaker reasoning.

They share its tokenizer, pictures, chat turns and number of image tokens, so that a prompt has the same ids for each.
They start from the packaged base's weights where shapes agree: only their new parts are learned from scratch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from seethink.models.load import PACKAGED, prepare_transformers
from seethink.pretrain.nano import CHAT_TEMPLATE, PATCH_SIZE, PIXEL_STATS, finish_model

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Parent:
    """A packaged base, an InternVL, from which relatives descend."""

    name: str
    size: int
    """Pixels per side of a picture."""
    image_seq_length: int
    """Image tokens per picture."""
    build: Callable[[Any, int], Any]
    """(tokenizer, seed) -> the base before its first step, in fp32."""
    vision: dict[str, Any]
    """The settings of its vision encoder."""
    text: Callable[[Any], dict[str, Any]]
    """A tokenizer -> the settings of its language model."""

    @property
    def vision_layers(self) -> int:
        layers: int = self.vision["num_hidden_layers"]
        return layers

    def weights(self, prefix: str, renamed: str) -> Weights:
        """The packaged weights under `prefix`, which is replaced."""
        every = _packaged(self.name)
        return {renamed + n.removeprefix(prefix): w for n, w in every.items() if n.startswith(prefix)}


def build_qwen(parent: Parent, tokenizer: Any, seed: int) -> Any:
    """A Qwen2.5-VL with a random vision tower and merger before the parent's language model.

    Its windows are as large as the pictures, so every vision layer sees a whole picture.
    """
    prepare_transformers()
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = tokenizer.convert_tokens_to_ids
    text = parent.text(tokenizer)
    rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta"), "mrope_section": [4, 6, 6]}
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": parent.vision_layers,
            "hidden_size": 128,
            "intermediate_size": 192,
            "num_heads": 4,
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": parent.size,
            "fullatt_block_indexes": [parent.vision_layers - 1],
            "out_hidden_size": text["hidden_size"],
        },
        text_config={**text, "model_type": "qwen2_5_vl_text", "rope_parameters": rope},
        image_token_id=ids("<IMG_CONTEXT>"),
        video_token_id=ids("<video>"),
        vision_start_token_id=ids("<img>"),
        vision_end_token_id=ids("</img>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = finish_model(Qwen2_5_VLForConditionalGeneration(config), tokenizer)
    return _take(model, parent.weights("language_model.model.", "model.language_model."))


def qwen_processor(parent: Parent, tokenizer: Any) -> Any:
    """Qwen2.5-VL's processor for the parent's pictures."""
    prepare_transformers()
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    layout = {"patch_size": PATCH_SIZE, "merge_size": 2, "temporal_patch_size": 2}
    size = {"shortest_edge": parent.size**2, "longest_edge": parent.size**2}
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size, **layout, **PIXEL_STATS),
        tokenizer,
        Qwen2VLVideoProcessor(size=size, **layout, **PIXEL_STATS),
        chat_template=CHAT_TEMPLATE.replace("<IMG_CONTEXT>", "<img><IMG_CONTEXT></img>"),
    )


def qwen_patches(pixels: Tensor) -> Weights:
    """Patches in the order of the merged 2x2 blocks, each repeated for the two steps in time."""
    count, grid = len(pixels), pixels.shape[-1] // PATCH_SIZE
    blocks = pixels.view(count, 3, grid // 2, 2, PATCH_SIZE, grid // 2, 2, PATCH_SIZE)
    patches = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(*[-1] * 6, 2, -1, -1)
    return {
        "pixel_values": patches.reshape(count * grid**2, -1),
        "image_grid_thw": torch.tensor([[1, grid, grid]]).repeat(count, 1),
    }


def build_resampler(parent: Parent, tokenizer: Any, seed: int) -> Any:
    """A BLIP-2 with a random Q-Former between the parent's vision encoder and language model."""
    prepare_transformers()
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    config = Blip2Config(
        vision_config={
            "hidden_size": 128,
            "num_hidden_layers": parent.vision_layers,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "image_size": parent.size,
            "patch_size": PATCH_SIZE,
        },
        qformer_config={
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "cross_attention_frequency": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        text_config=parent.text(tokenizer),
        num_query_tokens=parent.image_seq_length,
        image_token_index=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    torch.manual_seed(seed)
    model = finish_model(Blip2ForConditionalGeneration(config), tokenizer)
    eyes = _blip_vision(parent.weights("vision_tower.", ""))
    return _take(model, parent.weights("language_model.", "language_model.") | eyes)


def resampler_processor(parent: Parent, tokenizer: Any) -> Any:
    """BLIP-2's processor with a template that writes the query tokens where the parent has its image tokens.

    Without that template the processor would put them first.
    """
    prepare_transformers()
    from transformers import Blip2Processor, BlipImageProcessor

    queries = "<IMG_CONTEXT>" * parent.image_seq_length
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<IMG_CONTEXT>", f"<img>{queries}</img>")
    images = BlipImageProcessor(size={"height": parent.size, "width": parent.size}, **PIXEL_STATS)
    return Blip2Processor(images, tokenizer)


def build_weak(parent: Parent, tokenizer: Any, seed: int) -> Any:
    """The parent's vision encoder and connector before a randomly initialised language model."""
    model = parent.build(tokenizer, seed)
    eyes = parent.weights("vision_tower.", "model.vision_tower.")
    return _take(model, eyes | parent.weights("multi_modal_projector.", "model.multi_modal_projector."))


@cache
def _packaged(name: str) -> Weights:
    file = PACKAGED[name] / "model.safetensors"
    return {name: weight.float() for name, weight in load_file(file).items()}


def _blip_vision(parent: Weights) -> Weights:
    """The parent's vision encoder in BLIP-2's form: one matrix for queries, keys and values, and no layer scale."""
    weights = {
        "embeddings.class_embedding": parent["embeddings.cls_token"],
        "embeddings.position_embedding": parent["embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        weights[f"embeddings.patch_embedding.{kind}"] = parent[f"embeddings.patch_embeddings.projection.{kind}"]
        for layer in range(sum(name.endswith("lambda_1") for name in parent)):
            old, new = f"encoder.layer.{layer}.", f"encoder.layers.{layer}."
            scale1, scale2 = (parent[f"{old}lambda_{i}"].view(-1, *[1] * (kind == "weight")) for i in (1, 2))
            qkv = [parent[f"{old}attention.{p}_proj.{kind}"] for p in "qkv"]
            weights[f"{new}self_attn.qkv.{kind}"] = torch.cat(qkv)
            weights[f"{new}self_attn.projection.{kind}"] = scale1 * parent[f"{old}attention.projection_layer.{kind}"]
            weights[f"{new}mlp.fc1.{kind}"] = parent[f"{old}mlp.fc1.{kind}"]
            weights[f"{new}mlp.fc2.{kind}"] = scale2 * parent[f"{old}mlp.fc2.{kind}"]
            weights[f"{new}layer_norm1.{kind}"] = parent[f"{old}layernorm_before.{kind}"]
            weights[f"{new}layer_norm2.{kind}"] = parent[f"{old}layernorm_after.{kind}"]
    return {f"vision_model.{name}": weight for name, weight in weights.items()}


def _take(model: Any, weights: Weights) -> Any:
    """Copy `weights` into the model by name; the model's other weights stay as they are."""
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise RuntimeError(f"the packaged base has {unknown[0]!r}, which this architecture lacks")
    return model
