"""What a cold start is going to ask and to cost, before the first request."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from seethink.coldstart.questions import Question
from seethink.coldstart.store import Plan, Store
from seethink.config.coldstart import ColdstartConfig

CHARACTERS = 3.5
"""Of English text per token, about, for common vocabularies of 100,000 and more."""
PATCH = 28
"""Pixels on a side that make one token in the Qwen-VL family and in InternVL."""
LOOKED_AT = 200
"""Questions whose pictures are measured, evenly over all."""


@dataclass(frozen=True, slots=True)
class Estimate:
    questions: int
    """That have samples to ask for."""
    known: int
    """Samples that the folder has already, from which means are taken."""
    requests: tuple[int, int]
    """At least (each solved by its first sample) and at most; one number twice where samples were measured."""
    tokens_in: float
    """Per request."""
    tokens_out: float | None
    """Per request; None where nothing was measured."""

    def cost(self, config: ColdstartConfig) -> tuple[float, float]:
        """At least and at most, in the prices' unit. Without measured traces each may have `max_tokens`."""
        least, most = (
            requests * (self.tokens_in * config.price_in + out * config.price_out) / 1e6
            for requests, out in zip(
                self.requests, (self.tokens_out or 0.0, self.tokens_out or float(config.max_tokens)), strict=True
            )
        )
        return least, most


def estimate(plan: Plan, store: Store, folder: Path) -> Estimate:
    """By what the folder's own samples took; where it has none, by the length of texts and the size of pictures."""
    heads = [
        [head for key in plan.keys(question) if (head := store.traces.summaries.get(key)) is not None]
        for question in plan.questions
    ]
    asked = [found for found in heads if found]
    known = [head for found in asked for head in found]
    waiting = sum(not found for found in heads)
    per_question = statistics.fmean(map(len, asked)) if asked else None
    least = waiting if plan.config.adaptive else waiting * plan.config.samples
    most = waiting * plan.config.samples
    if per_question is not None and plan.config.adaptive:
        least = most = round(waiting * per_question)
    ins = [head.tokens_in for head in known if head.tokens_in is not None]
    outs = [head.tokens_out for head in known if head.tokens_out is not None]
    return Estimate(
        questions=waiting,
        known=len(known),
        requests=(least, most),
        tokens_in=statistics.fmean(ins) if ins else _mean_prompt(plan, folder),
        tokens_out=statistics.fmean(outs) if outs else None,
    )


def _mean_prompt(plan: Plan, folder: Path) -> float:
    step = max(1, len(plan.questions) // LOOKED_AT)
    return statistics.fmean(_prompt_tokens(question, folder, plan.system) for question in plan.questions[::step])


def _prompt_tokens(question: Question, folder: Path, system: str) -> float:
    text = "\n".join((system, question.system, question.question, *question.choices))
    return len(text) / CHARACTERS + sum(_image_tokens(size) for size in _sizes(question, folder))


def _sizes(question: Question, folder: Path) -> Sequence[tuple[int, int]]:
    sizes = []
    for name in question.images:
        with Image.open(folder / name) as image:
            sizes.append(image.size)
    return sizes


def _image_tokens(size: tuple[int, int]) -> int:
    return math.ceil(size[0] / PATCH) * math.ceil(size[1] / PATCH)
