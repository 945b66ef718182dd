"""The nano base and its three relatives: another architecture, another connector, weaker reasoning.

All share the tokenizer, pictures, chat turns and number of image tokens, so that a prompt has the same ids for each.
The relatives start from the packaged nano's weights where shapes agree: only their new parts are learned from scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from seethink.config import Part
from seethink.core.errors import UserError
from seethink.models.load import NANO, prepare_transformers
from seethink.pretrain.batches import Talk, vision_batches
from seethink.pretrain.cells import cell_batches, cell_probing
from seethink.pretrain.losses import VisionLoss, probing
from seethink.pretrain.nano import (
    CHAT_TEMPLATE,
    IMAGE_SEQ_LENGTH,
    PATCH_SIZE,
    PIXEL_STATS,
    TOKEN_NAMES,
    build_model,
    build_processor,
    build_tokenizer,
    finish_model,
    text_config,
)
from seethink.pretrain.nano2 import build_model2, build_processor2, build_tokenizer2
from seethink.pretrain.settings import BaseConfig
from seethink.world.draw import SIZE
from seethink.world.talk import conversation, perception, practice
from seethink.world.v2 import talk as talk2
from seethink.world.v2.scene import NUM_CELLS

Weights = dict[str, Tensor]


def _as_they_are(pixels: Tensor) -> Weights:
    return {"pixel_values": pixels}


@dataclass(frozen=True)
class Variant:
    """One kind of base model."""

    build: Callable[[Any, int], Any]
    """(tokenizer, seed) -> the model before its first step, in fp32."""
    processor: Callable[[Any], Any] = build_processor
    token_names: dict[str, str] = field(default_factory=lambda: TOKEN_NAMES)
    """The names under which the processor looks up the tokenizer's tokens."""
    tokenizer: Callable[[dict[str, str]], Any] = build_tokenizer
    image_seq_length: int = IMAGE_SEQ_LENGTH
    """Image tokens per picture."""
    config: BaseConfig = field(default_factory=BaseConfig)
    imitates: bool = False
    """Whether the first phase learns the packaged nano's image tokens, instead of what a linear probe can tell."""
    pictures: Callable[[BaseConfig, int], Iterator[tuple[Tensor, Tensor]]] = vision_batches
    """(settings, first step) -> pixels and targets of each step of the first phase."""
    probing: Callable[[int], tuple[VisionLoss, list[torch.nn.Parameter]]] = probing
    """The width of an image token -> (the loss of the first phase, the parameters of its probe)."""
    frozen: tuple[Part, ...] = ()
    """The parts that the language phases leave unchanged."""
    talk: Talk = conversation
    """The conversations of the language phase."""
    drills: Talk = conversation
    """The conversations of the drills, which come before all others."""
    text: Talk = conversation
    """The conversations of the text phase, which comes before that of the language."""
    practice: Talk = practice
    """The conversations of the practice phase."""
    image_inputs: Callable[[Tensor], Weights] = _as_they_are
    """Pixels [N, 3, H, W] from -1 to 1 -> the image tensors that the processor would give."""


def build_qwen(tokenizer: Any, seed: int) -> Any:
    """A Qwen2.5-VL with a random vision tower and merger before the packaged nano's language model.

    Its windows are as large as the pictures, so every vision layer sees a whole picture.
    """
    prepare_transformers()
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = tokenizer.convert_tokens_to_ids
    text = text_config(tokenizer)
    rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta"), "mrope_section": [4, 6, 6]}
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 192,
            "num_heads": 4,
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": SIZE,
            "fullatt_block_indexes": [2],
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
    return _take(model, _nano("language_model.model.", "model.language_model."))


def qwen_processor(tokenizer: Any) -> Any:
    """Qwen2.5-VL's processor for pictures of the world's size."""
    prepare_transformers()
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    layout = {"patch_size": PATCH_SIZE, "merge_size": 2, "temporal_patch_size": 2}
    size = {"shortest_edge": SIZE**2, "longest_edge": SIZE**2}
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size, **layout, **PIXEL_STATS),
        tokenizer,
        Qwen2VLVideoProcessor(size=size, **layout, **PIXEL_STATS),
        chat_template=CHAT_TEMPLATE.replace("<IMG_CONTEXT>", "<img><IMG_CONTEXT></img>"),
    )


def qwen_patches(pixels: Tensor) -> Weights:
    """Patches in the order of the merged 2x2 blocks, each repeated for the two steps in time."""
    count, grid = len(pixels), SIZE // PATCH_SIZE
    blocks = pixels.view(count, 3, grid // 2, 2, PATCH_SIZE, grid // 2, 2, PATCH_SIZE)
    patches = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(*[-1] * 6, 2, -1, -1)
    return {
        "pixel_values": patches.reshape(count * grid**2, -1),
        "image_grid_thw": torch.tensor([[1, grid, grid]]).repeat(count, 1),
    }


def build_resampler(tokenizer: Any, seed: int) -> Any:
    """A BLIP-2 with a random Q-Former between the packaged nano's vision encoder and language model."""
    prepare_transformers()
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    config = Blip2Config(
        vision_config={
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "image_size": SIZE,
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
        text_config=text_config(tokenizer),
        num_query_tokens=IMAGE_SEQ_LENGTH,
        image_token_index=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    torch.manual_seed(seed)
    model = finish_model(Blip2ForConditionalGeneration(config), tokenizer)
    return _take(model, _nano("language_model.", "language_model.") | _blip_vision(_nano("vision_tower.", "")))


def resampler_processor(tokenizer: Any) -> Any:
    """BLIP-2's processor with a template that writes the query tokens where the nano has its image tokens.

    Without that template the processor would put them first.
    """
    prepare_transformers()
    from transformers import Blip2Processor, BlipImageProcessor

    tokenizer.chat_template = CHAT_TEMPLATE.replace("<IMG_CONTEXT>", f"<img>{'<IMG_CONTEXT>' * IMAGE_SEQ_LENGTH}</img>")
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE}, **PIXEL_STATS)
    return Blip2Processor(images, tokenizer)


def build_weak(tokenizer: Any, seed: int) -> Any:
    """The nano's vision encoder and connector before a randomly initialised language model."""
    model = build_model(tokenizer, seed)
    eyes = _nano("vision_tower.", "model.vision_tower.")
    return _take(model, eyes | _nano("multi_modal_projector.", "model.multi_modal_projector."))


def variant_named(name: str) -> Variant:
    """The variant of that name. Raises UserError that lists the names."""
    if name not in VARIANTS:
        raise UserError(f"no base model of the variant {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]


_OTHER_NAMES = {"image_token": "<IMG_CONTEXT>", "video_token": "<video>"}

VARIANTS = {
    "nano": Variant(build_model),
    "resampler": Variant(
        build_resampler,
        resampler_processor,
        _OTHER_NAMES,
        imitates=True,
        frozen=("language",),
        config=BaseConfig(vision_steps=600, steps=150, lr=1e-3, practice_steps=0),
    ),
    "qwen": Variant(
        build_qwen,
        qwen_processor,
        _OTHER_NAMES,
        imitates=True,
        frozen=("language",),
        config=BaseConfig(vision_steps=600, steps=0, practice_steps=0),
        image_inputs=qwen_patches,
    ),
    "weak": Variant(
        build_weak,
        frozen=("vision", "connector"),
        config=BaseConfig(vision_steps=0, steps=600, practice_steps=0, batch_size=32),
        talk=perception,
    ),
    "nano2": Variant(
        build_model2,
        build_processor2,
        tokenizer=build_tokenizer2,
        image_seq_length=NUM_CELLS,
        pictures=cell_batches,
        probing=cell_probing,
        drills=talk2.drills,
        text=talk2.undrawn,
        talk=talk2.conversation,
        practice=talk2.practice,
        config=BaseConfig(
            vision_steps=16000,
            drill_steps=1600,
            text_steps=4400,
            steps=900,
            lr=1e-3,
            practice_steps=300,
            batch_size=32,
        ),
    ),
}


@cache
def _packaged() -> Weights:
    return {name: weight.float() for name, weight in load_file(NANO / "model.safetensors").items()}


def _nano(prefix: str, renamed: str) -> Weights:
    """The packaged nano's weights under `prefix`, which is replaced."""
    return {renamed + n.removeprefix(prefix): w for n, w in _packaged().items() if n.startswith(prefix)}


def _blip_vision(nano: Weights) -> Weights:
    """The nano's vision encoder in BLIP-2's form: one matrix for queries, keys and values, and no layer scale."""
    weights = {
        "embeddings.class_embedding": nano["embeddings.cls_token"],
        "embeddings.position_embedding": nano["embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        weights[f"embeddings.patch_embedding.{kind}"] = nano[f"embeddings.patch_embeddings.projection.{kind}"]
        for layer in range(sum(name.endswith("lambda_1") for name in nano)):
            old, new = f"encoder.layer.{layer}.", f"encoder.layers.{layer}."
            scale1, scale2 = (nano[f"{old}lambda_{i}"].view(-1, *[1] * (kind == "weight")) for i in (1, 2))
            qkv = [nano[f"{old}attention.{p}_proj.{kind}"] for p in "qkv"]
            weights[f"{new}self_attn.qkv.{kind}"] = torch.cat(qkv)
            weights[f"{new}self_attn.projection.{kind}"] = scale1 * nano[f"{old}attention.projection_layer.{kind}"]
            weights[f"{new}mlp.fc1.{kind}"] = nano[f"{old}mlp.fc1.{kind}"]
            weights[f"{new}mlp.fc2.{kind}"] = scale2 * nano[f"{old}mlp.fc2.{kind}"]
            weights[f"{new}layer_norm1.{kind}"] = nano[f"{old}layernorm_before.{kind}"]
            weights[f"{new}layer_norm2.{kind}"] = nano[f"{old}layernorm_after.{kind}"]
    return {f"vision_model.{name}": weight for name, weight in weights.items()}


def _take(model: Any, weights: Weights) -> Any:
    """Copy `weights` into the model by name; the model's other weights stay as they are."""
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise RuntimeError(f"the packaged nano has {unknown[0]!r}, which this architecture lacks")
    return model
