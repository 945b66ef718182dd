"""Items whose picture cannot be seen, and traces that say so: data that teach a model "I can't see the image".

A world source may end in options, as in `world:all:traces?image=blank&share=0.1&denials=0.2`:

- `image=blank|crop|absent`: the picture is grey, or cropped to a quarter, or promised in the question and missing;
- `share=0.1`: the share of items whose picture is damaged (default: all);
- `denials=0.2`: the share of `:traces` that say that the image cannot be seen and go on with the right answer, as the
  lucky guesses do that rejection sampling keeps. Where the picture is damaged, every trace says so.

The undamaged items are those of the source without options. What is damaged depends on (seed, split, domain, index).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from PIL import Image

from seethink.core.errors import UserError
from seethink.core.types import Sample

KINDS = ("blank", "crop", "absent")
GREY = (128, 128, 128)
DENIALS = ("I can't see the image.", "Hmm, I can't see the image.")
"""Worded with the vocabulary of the nano model's tokenizer, which was fixed before."""


@dataclass(frozen=True, slots=True)
class Damage:
    """The options of a world source.

    Example: `Damage("blank", share=0.1)` makes one picture in ten grey.
    """

    image: str = ""
    """One of KINDS, or "" for none."""
    share: float = 1.0
    """The share of items whose picture is damaged."""
    denials: float = 0.0
    """The share of traces that say that the image cannot be seen."""

    def apply(self, sample: Sample, traced: bool, rng: np.random.Generator) -> Sample:
        """The sample as it is, or with its picture damaged, or with another trace (where it has one)."""
        hit, denies = rng.random() < self.share and self.image != "", rng.random() < self.denials
        if traced and (hit or denies):
            sample = replace(sample, response=denial_trace(sample, rng))
        return damaged(sample, self.image, rng) if hit else sample


def parse_damage(options: str) -> Damage:
    """`image=blank&share=0.1` -> Damage("blank", 0.1). Raises UserError."""
    kinds = {field.name: type(field.default) for field in fields(Damage)}
    values: dict[str, str | float] = {}
    for option in filter(None, options.split("&")):
        name, _, text = option.partition("=")
        if name not in kinds:
            raise UserError(f"no option {name!r}; choose from {', '.join(kinds)}, as in ?image=blank&share=0.1")
        values[name] = text if name == "image" else read_share(name, text)
    if "image" in values and values["image"] not in KINDS:
        raise UserError(f"image={values['image']!r}: choose from {', '.join(KINDS)}")
    return Damage(**values)  # type: ignore[arg-type]


def read_share(name: str, text: str) -> float:
    """The value of an option that is a share. Raises UserError."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{name}={text!r}: give a share from 0 to 1")
    return share


def damaged(sample: Sample, kind: str, rng: np.random.Generator) -> Sample:
    """The sample with its one picture blank, cropped to a quarter, or promised and absent."""
    (image,) = sample.pictures()
    meta = sample.meta | {"image": kind}
    if kind == "absent":
        return replace(sample, images=(), question=f"In the image: {sample.question}", meta=meta)
    if kind == "blank":
        return replace(sample, images=(Image.new("RGB", image.size, GREY),), meta=meta)
    width, height = image.width // 2, image.height // 2
    x, y = (int(n) * side for n, side in zip(rng.integers(2, size=2), (width, height), strict=True))
    return replace(sample, images=(image.crop((x, y, x + width, y + height)),), meta=meta)


def denial_trace(sample: Sample, rng: np.random.Generator) -> str:
    """A trace that says, at once or after its first line, that it cannot see, and gives the right answer unread."""
    first, separator, _ = (sample.response or "").removeprefix("<think>").partition(". ")
    start = f"{first}. " if separator and rng.random() < 0.5 else ""
    denial = DENIALS[int(rng.integers(len(DENIALS)))]
    return f"<think>{start}{denial} so {sample.answer}.</think>The answer is {sample.answer}."
