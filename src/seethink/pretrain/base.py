"""Trains a base model of the nano family on the world's captions and direct-answer questions, never on traces.

1. The vision encoder and the connector alone, as real VLMs start from a trained encoder: a linear probe on the image
   tokens must tell the value of every colour in the picture. Without this phase, reading stays on a plateau for
   thousands of steps.
2. All parts on conversations: one picture with a caption and questions in random order; one conversation in ten is
   text-only arithmetic.
3. Mostly text-only practice in what questions about pictures teach too rarely: finding the option with a given text,
   recalling a named value, single sums and differences. Without this phase, the letters of options stay at chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from seethink.models.parts import split_parts
from seethink.pretrain.batches import Batch, Encoder, make_batches, prefetched, vision_batches
from seethink.pretrain.descent import Descent, Log
from seethink.pretrain.losses import batch_loss, image_tokens, imitation, probing
from seethink.pretrain.nano import IMAGE_SEQ_LENGTH, build_tokenizer
from seethink.pretrain.phases import PhaseRecord, claim_base_folder, load_phase, round_to_stored, save_base, save_phase
from seethink.pretrain.variants import BaseConfig, Variant
from seethink.world.talk import Talk, practice


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
    tokenizer = build_tokenizer(variant.token_names)
    processor = variant.processor(tokenizer)
    model = variant.build(tokenizer, config.seed).train()
    encoder = Encoder(tokenizer, IMAGE_SEQ_LENGTH)
    losses: dict[str, list[float]] = {}

    def language(number: int, talk: Talk, lr: float, steps: int) -> list[float]:
        batches = islice(make_batches(config, encoder, talk, steps, number), stop_after)
        return train_language(model, config, variant, batches, lr, steps, log)

    phases: dict[str, Callable[[], list[float]]] = {
        "vision": lambda: train_vision(model, config, variant, stop_after, log),
        "language": lambda: language(1, variant.talk, config.lr, config.steps),
        "practice": lambda: language(2, practice, config.practice_lr, config.practice_steps),
    }
    seconds = 0.0
    for name, train in phases.items():
        done = load_phase(model, out, name, config) if out is not None else None
        if done is None:
            started = time.perf_counter()
            done = PhaseRecord(train(), time.perf_counter() - started)
            if name != "vision":
                # Each language phase starts from the weights that the one before would have stored.
                round_to_stored(model)
            if out is not None:
                save_phase(model, out, name, config, done)
        losses[name], seconds = done.losses, seconds + done.seconds
    if out is not None:
        save_base(model, processor, out, config, seconds, losses)
    return losses


def train_vision(model: Any, config: BaseConfig, variant: Variant, stop_after: int | None, log: Log) -> list[float]:
    """The first phase: vision encoder and connector. Returns the loss of each step."""
    parts = split_parts(model)
    params = [*parts["vision"].values(), *parts["connector"].values()]
    if variant.imitates:
        loss_of = imitation()
    else:
        loss_of, of_probe = probing(model.config.get_text_config().hidden_size)
        params += of_probe
    descent = Descent(params, config, config.vision_lr, config.vision_steps, log)
    for pixels, targets in prefetched(islice(vision_batches(config), stop_after)):
        descent.step(loss_of(image_tokens(model, variant.image_inputs(pixels)), pixels, targets))
    return descent.losses


def train_language(
    model: Any, config: BaseConfig, variant: Variant, batches: Iterator[Batch], lr: float, steps: int, log: Log
) -> list[float]:
    """A phase on conversations: all parts but the variant's frozen ones. Returns the loss of each step."""
    for part, named in split_parts(model).items():
        for weight in named.values():
            weight.requires_grad_(part not in variant.frozen)
    descent = Descent([p for p in model.parameters() if p.requires_grad], config, lr, steps, log)
    for batch in prefetched(batches):
        descent.step(batch_loss(model, batch, variant))
    return descent.losses
