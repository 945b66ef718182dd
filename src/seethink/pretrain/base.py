"""Trains a base model of the nano family on the world's captions and direct-answer questions, never on traces.

1. The vision encoder and the connector alone, as real VLMs start from a trained encoder: a linear probe on the image
   tokens must tell the value of every colour in the picture. Without this phase, reading stays on a plateau for
   thousands of steps.
2. The second nano alone: its language model on captions in words and questions about them.
3. All parts on conversations: one picture with a caption and questions in random order; one conversation in ten is
   text-only arithmetic.
4. Mostly text-only practice in what questions about pictures teach too rarely: finding the option with a given text,
   recalling a named value, single sums and differences. Without this phase, the letters of options stay at chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from seethink.models.parts import split_parts
from seethink.pretrain.batches import Batch, Encoder, Talk, make_batches, prefetched
from seethink.pretrain.descent import Descent, Log
from seethink.pretrain.losses import batch_loss, image_tokens, imitation
from seethink.pretrain.phases import (
    Course,
    PhaseRecord,
    claim_base_folder,
    load_phase,
    round_to_stored,
    save_base,
    save_phase,
)
from seethink.pretrain.settings import BaseConfig
from seethink.pretrain.variants import Variant

T = TypeVar("T")


def train_base(
    config: BaseConfig, out: Path | None, *, variant: Variant, stop_after: int | None = None, log: Log = print
) -> dict[str, list[float]]:
    """Train and save to `out` (bf16 safetensors, tokenizer, processor); returns the loss of each step by phase.

    `out` keeps the weights after each phase until all phases are done, and the same command goes on from them.
    `stop_after` ends each phase after so many steps. Raises UserError where the kept weights were made with other
    settings, or `out` holds something else.
    """
    if out is not None:
        claim_base_folder(out)
    tokenizer = variant.tokenizer(variant.token_names)
    processor = variant.processor(tokenizer)
    model = variant.build(tokenizer, config.seed).train()
    encoder = Encoder(tokenizer, variant.image_seq_length)
    losses: dict[str, list[float]] = {}

    def language(number: int, talk: Talk, lr: float, steps: int, course: Course) -> PhaseRecord:
        def batches(first: int) -> Iterator[Batch]:
            return islice(make_batches(config, encoder, talk, steps, number, first), stop_after)

        return train_language(model, config, variant, batches, lr, steps, log, course)

    phases: dict[str, Callable[[Course], PhaseRecord]] = {
        "vision": lambda course: train_vision(model, config, variant, stop_after, log, course),
        "text": lambda course: language(3, variant.text, config.text_lr, config.text_steps, course),
        "language": lambda course: language(1, variant.talk, config.lr, config.steps, course),
        "practice": lambda course: language(2, variant.practice, config.practice_lr, config.practice_steps, course),
    }
    if not config.text_steps:
        del phases["text"]
    seconds = 0.0
    for name, train in phases.items():
        done = load_phase(model, out, name, config) if out is not None else None
        if done is None:
            done = train(Course(out, name, config))
            if name != "vision":
                # Each language phase starts from the weights that the one before would have stored.
                round_to_stored(model)
            if out is not None:
                save_phase(model, out, name, config, done)
        losses[name], seconds = done.losses, seconds + done.seconds
    if out is not None:
        save_base(model, processor, out, config, seconds, losses)
    return losses


def train_vision(
    model: Any, config: BaseConfig, variant: Variant, stop_after: int | None, log: Log, course: Course
) -> PhaseRecord:
    """The first phase: vision encoder and connector."""
    parts = split_parts(model)
    params = [*parts["vision"].values(), *parts["connector"].values()]
    if variant.imitates:
        loss_of = imitation()
    else:
        loss_of, of_probe = variant.probing(model.config.get_text_config().hidden_size)
        params += of_probe

    def loss(pictures: tuple[Tensor, Tensor]) -> Tensor:
        pixels, targets = pictures
        return loss_of(image_tokens(model, variant.image_inputs(pixels)), pixels, targets)

    descent = Descent(params, config, config.vision_lr, config.vision_steps, log)
    return descend(descent, lambda first: islice(variant.pictures(config, first), stop_after), loss, course)


def train_language(
    model: Any,
    config: BaseConfig,
    variant: Variant,
    batches: Callable[[int], Iterator[Batch]],
    lr: float,
    steps: int,
    log: Log,
    course: Course,
) -> PhaseRecord:
    """A phase on conversations: all parts but the variant's frozen ones. `batches` takes the step to begin with."""
    for part, named in split_parts(model).items():
        for weight in named.values():
            weight.requires_grad_(part not in variant.frozen)
    descent = Descent([p for p in model.parameters() if p.requires_grad], config, lr, steps, log)
    return descend(descent, batches, lambda batch: batch_loss(model, batch, variant), course)


def descend(
    descent: Descent, batches: Callable[[int], Iterator[T]], loss: Callable[[T], Tensor], course: Course
) -> PhaseRecord:
    """Take the steps that are left of a phase."""
    course.resume(descent)
    for batch in prefetched(batches(len(descent.losses))):
        descent.step(loss(batch))
        course.keep(descent)
    return PhaseRecord(descent.losses, descent.seconds)
