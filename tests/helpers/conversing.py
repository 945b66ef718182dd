"""An environment that answers every turn, so that a model which knows no tool has episodes of several turns."""

from __future__ import annotations

from typing import ClassVar

from seethink.core.types import Sample
from seethink.environments.protocol import FINAL, Step
from seethink.environments.zoom import crop


class Talker:
    """Answers two turns, the first of them with a part of the picture where there is one, and ends with the third."""

    instructions: ClassVar[str] = "what is the sum"
    gives_images: ClassVar[bool] = True
    answers = 2

    def reset(self, sample: Sample) -> None:
        self._images, self._turn = sample.pictures(), 0

    def step(self, text: str) -> Step:
        self._turn += 1
        if self._turn > self.answers:
            return FINAL
        pictures = (crop(self._images[0], (0, 0, 500, 500)),) if self._images and self._turn == 1 else ()
        return Step(f"{len(text)} is red, say more", pictures, reward=0.25)


class TextTalker(Talker):
    gives_images: ClassVar[bool] = False

    def step(self, text: str) -> Step:
        step = super().step(text)
        return step if step.done else Step(step.text)


class Endless(TextTalker):
    answers = 10**9


def by_length(response: str, sample: Sample) -> float:
    """A `reward.function` that differs between most responses."""
    return len(response) % 8 / 7
