"""The nano model's architecture, tokenizer, processor and chat template, all in Hugging Face classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from seethink.models.load import prepare_transformers
from seethink.world.draw import SIZE
from seethink.world.questions import TASKS, make_item
from seethink.world.scenes import DOMAINS
from seethink.world.trace import caption, direct_answer, teacher_trace

PATCH_SIZE = 14
IMAGE_SEQ_LENGTH = (SIZE // PATCH_SIZE // 2) ** 2
"""Image tokens per picture: pixel-unshuffle folds 2x2 patches into one."""
VOCAB_SIZE = 512
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
)
THINK_TOKENS = ("<think>", "</think>")
TOKEN_NAMES = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
"""The names under which InternVL's processor looks up the tokenizer's tokens."""
PIXEL_STATS: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}

CONTENT = (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n"
    "{% elif part['type'] == 'video' %}<video>\n"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
)
"""What a chat template writes of a turn."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    + CONTENT
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(token_names: dict[str, str] = TOKEN_NAMES) -> Any:
    """A byte-level BPE tokenizer of at most VOCAB_SIZE entries; the world's words are one token each."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d| ?[^\s\d\p{L}]| ?\p{L}+|\s+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS) - len(THINK_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_corpus(), trainer)
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in THINK_TOKENS])
    return wrap_tokenizer(core, token_names)


def wrap_tokenizer(core: Tokenizer, token_names: dict[str, str]) -> Any:
    """A tokenizer of transformers, which pads on the left and stops at the end of a turn."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=dict(token_names),
    )


def _corpus() -> Iterable[str]:
    """World text for the tokenizer, from a fixed seed; traces in mixed language are left out."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        for domain in DOMAINS:
            for difficulty in TASKS:
                item = make_item(domain, difficulty, "train", rng)
                trace = teacher_trace(item, rng)
                yield " ".join([item.prompt, caption(item), direct_answer(item.answer)])
                yield trace.replace("<think>", "").replace("</think>", " ") if trace.isascii() else ""
    extras = "Wait, let me check again. Hmm, Alternatively, But However, I can see the image."
    yield from [
        extras,
        "Describe the image.",
        "What is 3 plus 5 minus 2? so",
        "user",
        "assistant",
        "system",
    ] * 60


def build_processor(tokenizer: Any, side: int = SIZE, image_seq_length: int = IMAGE_SEQ_LENGTH) -> Any:
    """InternVL's processor for pictures of `side` x `side` pixels, one tile each."""
    prepare_transformers()
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": side, "width": side}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=False, **PIXEL_STATS),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size, **PIXEL_STATS),
        image_seq_length=image_seq_length,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: Any, seed: int) -> Any:
    """A randomly initialised nano InternVL in fp32."""
    return build_internvl(tokenizer, seed, vision_config(SIZE), text_config(tokenizer), IMAGE_SEQ_LENGTH)


def build_internvl(
    tokenizer: Any, seed: int, vision: dict[str, Any], text: dict[str, Any], image_seq_length: int
) -> Any:
    """A randomly initialised InternVL in fp32, which folds 2 x 2 patches into one image token."""
    prepare_transformers()
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=image_seq_length,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    return finish_model(InternVLForConditionalGeneration(config), tokenizer)


def vision_config(side: int) -> dict[str, Any]:
    """The vision encoder: three layers, 128 wide, for pictures of `side` x `side` pixels."""
    return {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "image_size": [side, side],
        "patch_size": [PATCH_SIZE, PATCH_SIZE],
        "attention_bias": True,
        "layer_scale_init_value": 1.0,
        "use_qk_norm": False,
    }


def text_config(tokenizer: Any) -> dict[str, Any]:
    """The language model: four layers of Qwen2, 128 wide."""
    return {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 384,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def finish_model(model: Any, tokenizer: Any) -> Any:
    """Widen the initial weights, and set the tokens at which `generate` stops and pads."""
    _widen_init(model)
    for owner in (model.config, model.generation_config):
        owner.eos_token_id, owner.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model


def _widen_init(model: Any) -> None:
    """Give weights the variance 1 / fan-in.

    The families' standard deviation of 0.02 suits widths of thousands. At 128 it leaves attention uniform, and reading
    stays on a plateau ten times as long.
    """
    for name, weight in model.named_parameters():
        if "embed_tokens" in name or "position_embeddings" in name:
            torch.nn.init.normal_(weight, std=0.1)
        elif "query_tokens" in name:
            torch.nn.init.normal_(weight)
        elif weight.ndim == 2 or ("patch_embed" in name and weight.ndim >= 4):
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
