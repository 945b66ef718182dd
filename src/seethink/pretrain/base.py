"""Trains a base model of the nano family on the world's captions and direct-answer questions, never on traces.

1. The vision encoder and the connector alone, as real VLMs start from a trained encoder: a linear probe on the image
   tokens must tell the value of every colour in the picture. Without this phase, reading stays on a plateau for
   thousands of steps.
2. The second nano alone: its language model, first on drills, single lookups in a text; then on captions in words and
   on pictures that are not drawn but told to it in the code that the first phase teaches the vision encoder
   (`codes.py`). It does not need the first phase, and runs beside it where there are two threads.
3. All parts on conversations: one picture with a caption and questions in random order; one conversation in ten is
   text-only arithmetic.
4. Mostly text-only practice in what questions about pictures teach too rarely: finding the option with a given text,
   recalling a named value, single sums and differences. Without this phase, the letters of options stay at chance.
5. The second nano alone: single steps of long workings, where an arrow leads and which of some sums makes a total.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from seethink.config import PARTS, Part
from seethink.core.errors import UserError
from seethink.core.orphans import stop_with_parent
from seethink.models.parts import split_parts
from seethink.pretrain.batches import Batch, Encoder, make_batches, prefetched
from seethink.pretrain.descent import Descent, Log
from seethink.pretrain.losses import batch_loss, image_tokens, imitation
from seethink.pretrain.phases import (
    Course,
    PhaseRecord,
    claim_base_folder,
    load_phase,
    phase_file,
    round_to_stored,
    save_base,
    save_phase,
)
from seethink.pretrain.settings import BaseConfig
from seethink.pretrain.variants import Variant

T = TypeVar("T")
ALONE: dict[str, tuple[Part, ...]] = {"vision": ("vision", "connector"), "drills": ("language",), "text": ("language",)}
"""Phases that train some parts alone. The first does not need the others, nor they it."""


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
    training = Training(config, out, variant, stop_after, log)
    done: dict[str, PhaseRecord] = {}
    with vision_beside(training) as wait:
        for name in training.phases:
            if name == "vision":
                wait()
            done[name] = training.phase(name)
    losses = {name: record.losses for name, record in done.items()}
    if out is not None:
        seconds = sum(record.seconds for record in done.values())
        save_base(training.model, training.processor, out, config, seconds, losses)
    return losses


class Training:
    """A model on its way through the phases."""

    def __init__(
        self, config: BaseConfig, out: Path | None, variant: Variant, stop_after: int | None, log: Log
    ) -> None:
        self.config, self.out, self.variant, self.stop_after, self.log = config, out, variant, stop_after, log
        tokenizer = variant.tokenizer(variant.token_names)
        self.processor = variant.processor(tokenizer)
        self.model = variant.build(tokenizer, config.seed).train()
        self._encoder = Encoder(tokenizer, variant.image_seq_length)
        before = [name for name, steps in (("drills", config.drill_steps), ("text", config.text_steps)) if steps]
        self.phases = (*before, "vision", "language", "practice", *["skills"] * (config.skill_steps > 0))

    def phase(self, name: str) -> PhaseRecord:
        """Train a phase, or load what it left where it is done."""
        parts = split_parts(self.model)
        trained = [part for part in ALONE.get(name, PARTS) if part not in self.variant.frozen]
        weights = {key: weight for part in trained for key, weight in parts[part].items()}
        done = load_phase(weights, self.out, name, self.config) if self.out is not None else None
        if done is not None:
            return done
        done = self._train(name)
        if name != "vision":
            # Each language phase starts from the weights that the one before would have stored.
            round_to_stored(weights)
        if self.out is not None:
            save_phase(weights, self.out, name, self.config, done)
        return done

    def _train(self, name: str) -> PhaseRecord:
        c, course = self.config, Course(self.out, name, self.config)
        if name == "vision":
            return train_vision(self.model, c, self.variant, self.stop_after, self.log, course)
        number, talk, lr, steps = {
            "drills": (4, self.variant.drills, c.text_lr, c.drill_steps),
            "text": (3, self.variant.text, c.text_lr, c.text_steps),
            "language": (1, self.variant.talk, c.lr, c.steps),
            "practice": (2, self.variant.practice, c.practice_lr, c.practice_steps),
            "skills": (5, self.variant.skills, c.skill_lr, c.skill_steps),
        }[name]

        def batches(first: int) -> Iterator[Batch]:
            return islice(make_batches(c, self._encoder, talk, steps, number, first), self.stop_after)

        return train_language(self.model, c, self.variant, batches, lr, steps, self.log, course)


@contextmanager
def vision_beside(training: Training) -> Iterator[Callable[[], None]]:
    """While the drills and the text phase train, a second process trains the vision phase with half of the threads.

    It does so where both phases are to come, the result is kept, and there is more than one thread. What is yielded
    waits for it, and raises UserError where it failed.
    """
    threads, out = torch.get_num_threads(), training.out
    if "text" not in training.phases or out is None or threads == 1 or phase_file(out, "vision").exists():
        yield lambda: None
        return
    about = (training.config, out, training.variant, training.stop_after, threads // 2)
    beside = multiprocessing.get_context("spawn").Process(target=_vision_alone, args=about, daemon=True)

    def wait() -> None:
        beside.join()
        torch.set_num_threads(threads)
        if beside.exitcode:
            raise UserError(f"the process of the vision phase ended with {beside.exitcode}; the same command goes on")

    beside.start()
    torch.set_num_threads(threads - threads // 2)
    try:
        yield wait
    finally:
        beside.terminate()


def _vision_alone(config: BaseConfig, out: Path, variant: Variant, stop_after: int | None, threads: int) -> None:
    """The vision phase in a process of its own."""
    stop_with_parent()
    torch.set_num_threads(threads)

    def log(line: str) -> None:
        print(f"vision: {line}", flush=True)

    Training(config, out, variant, stop_after, log).phase("vision")


def train_vision(
    model: Any, config: BaseConfig, variant: Variant, stop_after: int | None, log: Log, course: Course
) -> PhaseRecord:
    """The first phase: vision encoder and connector."""
    parts = split_parts(model)
    params = [weight for part in ALONE["vision"] if part not in variant.frozen for weight in parts[part].values()]
    if variant.imitates:
        loss_of = imitation(variant.imitates)
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
