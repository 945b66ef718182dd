"""The nano bases and their relatives: how each is built, and on what it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seethink.config import Part
from seethink.core.errors import UserError
from seethink.pretrain.batches import Talk, vision_batches
from seethink.pretrain.cells import cell_batches, cell_probing
from seethink.pretrain.losses import VisionLoss, probing
from seethink.pretrain.nano import (
    IMAGE_SEQ_LENGTH,
    TOKEN_NAMES,
    build_model,
    build_processor,
    build_tokenizer,
    text_config,
    vision_config,
)
from seethink.pretrain.nano2 import (
    VISION2,
    build_model2,
    build_processor2,
    build_tokenizer2,
    text_config2,
)
from seethink.pretrain.relatives import (
    Parent,
    Weights,
    build_qwen,
    build_resampler,
    build_weak,
    qwen_patches,
    qwen_processor,
    resampler_processor,
)
from seethink.pretrain.settings import BaseConfig
from seethink.pretrain.smol import build_smol, build_smol_processor, build_smol_tokenizer
from seethink.world.draw import SIZE
from seethink.world.talk import conversation, perception, practice
from seethink.world.v2 import canvas
from seethink.world.v2 import talk as talk2
from seethink.world.v2.scene import NUM_CELLS
from seethink.world.v2.skills import skills


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
    imitates: str = ""
    """The packaged base whose image tokens the first phase learns, instead of what a linear probe can tell."""
    pictures: Callable[[BaseConfig, int], Iterator[tuple[Tensor, Tensor]]] = vision_batches
    """(settings, first step) -> pixels and targets of each step of the first phase."""
    probing: Callable[[int], tuple[VisionLoss, list[torch.nn.Parameter]]] = probing
    """The width of an image token -> (the loss of the first phase, the parameters of its probe)."""
    frozen: tuple[Part, ...] = ()
    """The parts that no phase changes."""
    talk: Talk = conversation
    """The conversations of the language phase."""
    drills: Talk = conversation
    """The conversations of the drills, which come before all others."""
    text: Talk = conversation
    """The conversations of the text phase, which comes before that of the language."""
    practice: Talk = practice
    """The conversations of the practice phase."""
    skills: Talk = practice
    """The conversations of the last phase."""
    image_inputs: Callable[[Tensor], Weights] = _as_they_are
    """Pixels [N, 3, H, W] from -1 to 1 -> the image tensors that the processor would give."""


def variant_named(name: str) -> Variant:
    """The variant of that name. Raises UserError that lists the names."""
    if name not in VARIANTS:
        raise UserError(f"no base model of the variant {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]


_OTHER_NAMES = {"image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
NANO = Parent("nano", SIZE, IMAGE_SEQ_LENGTH, build_model, vision_config(SIZE), text_config)
NANO2 = Parent("nano2", canvas.SIZE, NUM_CELLS, build_model2, VISION2, text_config2)

_BASE = Variant(build_model)
_BASE2 = Variant(
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
    skills=skills,
    config=BaseConfig(
        vision_steps=16000,
        drill_steps=1600,
        text_steps=4400,
        steps=900,
        lr=1e-3,
        practice_steps=300,
        skill_steps=1000,
        batch_size=32,
    ),
)


def _other_eyes(base: Variant, parent: Parent, kind: str, config: BaseConfig, **changes: Any) -> Variant:
    """A relative with a vision encoder or a connector of its own, which learns its parent's image tokens."""
    build, processor = {"resampler": (build_resampler, resampler_processor), "qwen": (build_qwen, qwen_processor)}[kind]
    return replace(
        base,
        build=partial(build, parent),
        processor=partial(processor, parent),
        token_names=_OTHER_NAMES,
        imitates=parent.name,
        config=config,
        **changes,
    )


def _resampler(base: Variant, parent: Parent, config: BaseConfig) -> Variant:
    return _other_eyes(base, parent, "resampler", config, frozen=("language",))


def _qwen(base: Variant, parent: Parent, config: BaseConfig, frozen: tuple[Part, ...] = ()) -> Variant:
    return _other_eyes(base, parent, "qwen", config, image_inputs=qwen_patches, frozen=frozen)


def _weak(base: Variant, parent: Parent, talk: Talk, config: BaseConfig) -> Variant:
    return replace(base, build=partial(build_weak, parent), frozen=("vision", "connector"), talk=talk, config=config)


VARIANTS = {
    "nano": _BASE,
    "resampler": _resampler(_BASE, NANO, BaseConfig(vision_steps=600, steps=150, lr=1e-3, practice_steps=0)),
    "qwen": _qwen(_BASE, NANO, BaseConfig(vision_steps=600, steps=0, practice_steps=0), frozen=("language",)),
    "weak": _weak(_BASE, NANO, perception, BaseConfig(vision_steps=0, steps=600, practice_steps=0, batch_size=32)),
    "nano2": _BASE2,
    "nano2-resampler": _resampler(
        replace(_BASE2, talk=talk2.perception),
        NANO2,
        BaseConfig(vision_steps=4000, steps=400, lr=1e-3, practice_steps=0, batch_size=32),
    ),
    "nano2-qwen": _qwen(
        _BASE2,
        NANO2,
        BaseConfig(vision_steps=3000, steps=1200, lr=1e-3, practice_steps=0, skill_steps=200, batch_size=32),
    ),
    "nano2-weak": _weak(
        _BASE2, NANO2, talk2.perception, BaseConfig(vision_steps=0, steps=900, practice_steps=0, batch_size=32)
    ),
    "smol": replace(
        _BASE2,
        build=partial(build_smol, NANO2),
        processor=build_smol_processor,
        tokenizer=build_smol_tokenizer,
        frozen=("vision", "language"),
        talk=talk2.reading,
        config=BaseConfig(vision_steps=0, steps=320, lr=1e-3, practice_steps=0, batch_size=4, warmup=20),
    ),
}
