"""Real processors of every model family, with a tiny tokenizer and image sizes that fit the models of `families.py`.

Special tokens have the names that the published checkpoints use; only end of turn and padding are shared by all.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, processors

from helpers import newer_families
from helpers.family_words import (
    ANYRES_GRID,
    ANYRES_PATCH,
    ANYRES_TILE,
    EOS,
    GOLDEN_TOKENIZER,
    NEWLINES,
    PAD,
    PATCH,
    QUERY_TOKENS,
    QWEN_PLACE,
    QWEN_TOKENS,
    QWEN_VIDEO,
    SHARED_TOKENS,
    SPLIT_TOKENS,
    STATS,
    THINK_TOKENS,
    TILE,
    Words,
)
from seethink.models import torchvision_shim  # noqa: F401  (must come before the processors)

WORDS: dict[str, Words] = {
    "internvl": Words(
        tokens=("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        place="<IMG_CONTEXT>\n",
        video="<video>\n",
    ),
    "qwen2_5_vl": Words(QWEN_TOKENS, place=QWEN_PLACE, video=QWEN_VIDEO),
    "qwen3_vl": Words(QWEN_TOKENS, place=QWEN_PLACE, video=QWEN_VIDEO),
    "llava": Words(("<s>", "<image>"), place="<image>\n", bos="<s>"),
    "llava_onevision": Words(("<image>", "<video>"), place="<image>\n"),
    "idefics3": Words(
        ("<|begin_of_text|>", *SPLIT_TOKENS), place="<image>", bos="<|begin_of_text|>", bos_in_template=True
    ),
    "smolvlm": Words(SPLIT_TOKENS, place="<image>"),
    "gemma3": Words(
        tokens=("<bos>", "<start_of_image>", "<image_soft_token>", "<end_of_image>"),
        named={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        place="<start_of_image>",
        bos="<bos>",
        bos_in_template=True,
        text=NEWLINES,
    ),
    "instructblip": Words(("<s>", "<image>"), bos="<s>"),
    "blip-2": Words(("</s>", "<image>"), bos="</s>"),
    **newer_families.WORDS,
}


def chat_template(words: Words) -> str:
    start = "{{ '" + words.bos + "' }}" if words.bos and words.bos_in_template else ""
    return (
        start + "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ " + repr(words.place) + " }}"
        "{% elif part['type'] == 'video' %}{{ " + repr(words.video) + " }}"
        "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def build_tokenizer(words: Words) -> Any:
    """The stored byte-level vocabulary with the family's own special tokens."""
    from transformers import PreTrainedTokenizerFast

    stored = json.loads(GOLDEN_TOKENIZER.read_text(encoding="utf-8"))
    plain = {**stored["added_tokens"][0], "content": "", "normalized": False}
    first = len(stored["model"]["vocab"])
    special = (*SHARED_TOKENS, *words.tokens)
    stored["added_tokens"] = [
        {**plain, "id": first + i, "content": name, "special": name in special}
        for i, name in enumerate((*special, *THINK_TOKENS, *words.text))
    ]
    core = Tokenizer.from_str(json.dumps(stored))
    if words.bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{words.bos} $A", special_tokens=[(words.bos, core.token_to_id(words.bos))]
        )
    extra = {"bos_token": words.bos} if words.bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=dict(words.named),
        model_input_names=["input_ids", "attention_mask"],
        **extra,
    )


def build_processor(model_type: str, tokenizer: Any) -> Any:
    """A processor of the family's class. With a Q-Former, the tokenizer holds the chat template in its place."""
    template = chat_template(WORDS[model_type])
    if model_type in ("instructblip", "blip-2"):
        tokenizer.chat_template = template
        return _qformer(model_type, tokenizer)
    if model_type in newer_families.WORDS:
        return newer_families.build_processor(model_type, tokenizer, template)
    build = {
        "internvl": _internvl,
        "qwen2_5_vl": _qwen,
        "qwen3_vl": _qwen,
        "llava": _llava,
        "llava_onevision": _llava_onevision,
        "idefics3": _split,
        "smolvlm": _split,
        "gemma3": _gemma3,
    }[model_type]
    return build(model_type, tokenizer, template)


def _internvl(_: str, tokenizer: Any, template: str) -> Any:
    """One to four tiles and, if there are several, a thumbnail, of 4 tokens each."""
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": TILE, "width": TILE}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4, **STATS),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size, **STATS),
        image_seq_length=(TILE // PATCH // 2) ** 2,
        chat_template=template,
    )


def _qwen(model_type: str, tokenizer: Any, template: str) -> Any:
    """Native resolution: 4 to 20 tokens of 14 x 14 pixels per image."""
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    area = (2 * PATCH) ** 2
    layout = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    size = {"shortest_edge": 4 * area, "longest_edge": 20 * area}
    images = Qwen2VLImageProcessor(size=size, **layout, **STATS)
    if model_type == "qwen2_5_vl":
        videos: Any = Qwen2VLVideoProcessor(size=size, **layout, **STATS)
        return Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=template)
    videos = Qwen3VLVideoProcessor(size=size, **layout, **STATS)
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=template)


def _llava(_: str, tokenizer: Any, template: str) -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    size, crop = {"shortest_edge": TILE}, {"height": TILE, "width": TILE}
    return LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=crop, **STATS),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


def _llava_onevision(_: str, tokenizer: Any, template: str) -> Any:
    """A base view of 9 tokens and one to four tiles of 9, without padding, with a newline token per row."""
    from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

    size = {"height": ANYRES_TILE, "width": ANYRES_TILE}
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=ANYRES_GRID, **STATS),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size, **STATS),
        num_image_tokens=(ANYRES_TILE // ANYRES_PATCH) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=template,
    )


def _split(model_type: str, tokenizer: Any, template: str) -> Any:
    """Rows and columns of tiles and the whole picture, of 4 tokens each."""
    from transformers import (
        Idefics3ImageProcessor,
        Idefics3Processor,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    size: dict[str, Any] = {"size": {"longest_edge": 2 * TILE}, "max_image_size": {"longest_edge": TILE}}
    count = (TILE // PATCH // 2) ** 2
    if model_type == "idefics3":
        images: Any = Idefics3ImageProcessor(do_image_splitting=True, **size, **STATS)
        return Idefics3Processor(images, tokenizer, image_seq_len=count, chat_template=template)
    images = SmolVLMImageProcessor(do_image_splitting=True, **size, **STATS)
    sampling = {"max_frames": 4, "fps": 1, "video_size": {"longest_edge": TILE}}
    videos = SmolVLMVideoProcessor(**size, **STATS, video_sampling=sampling)
    return SmolVLMProcessor(images, tokenizer, videos, image_seq_len=count, chat_template=template)


def _gemma3(_: str, tokenizer: Any, template: str) -> Any:
    """4 tokens per image of any size."""
    from transformers import Gemma3ImageProcessor, Gemma3Processor

    images = Gemma3ImageProcessor(size={"height": TILE, "width": TILE}, **STATS)
    return Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=QUERY_TOKENS)


def _qformer(model_type: str, tokenizer: Any) -> Any:
    from transformers import Blip2Processor, BlipImageProcessor, InstructBlipProcessor

    images = BlipImageProcessor(size={"height": TILE, "width": TILE}, **STATS)
    if model_type == "blip-2":
        return Blip2Processor(images, tokenizer, num_query_tokens=QUERY_TOKENS)
    return InstructBlipProcessor(images, tokenizer, build_tokenizer(Words()), num_query_tokens=QUERY_TOKENS)
