"""Questions about a scene whose answers are computed, at three difficulties.

A task turns named quantities into (question, answer, steps). `steps` are the lines a careful solver would write;
`trace.py` makes a teacher's trace of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from seethink.world.digits import Split
from seethink.world.scenes import Scene, draw_scene, make_scene

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    answer: str
    """The value: a number or a colour; the letter is given by the item's choices."""
    used: tuple[str, ...]
    """The quantities to read, in order."""
    steps: tuple[str, ...]
    """The computation after reading, one short statement each; may be empty."""


Task = Callable[[Scene, np.random.Generator], Question]


@dataclass(frozen=True, slots=True)
class Item:
    """A scene with a question; `choices` is empty for fill-in-the-blank."""

    scene: Scene
    image: Image
    question: Question
    choices: tuple[str, ...]
    difficulty: str
    task: str

    @property
    def answer(self) -> str:
        return LETTERS[self.choices.index(self.question.answer)] if self.choices else self.question.answer

    @property
    def prompt(self) -> str:
        options = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, self.choices, strict=False))
        return self.question.text + options


def chain(values: Sequence[int], signs: Sequence[str]) -> tuple[int, list[str]]:
    """`3, 5, 2` with `+-` -> 6, ["3+5=8", "8-2=6"]."""
    total, steps = values[0], []
    for sign, value in zip(signs, values[1:], strict=True):
        result = total + value if sign == "+" else total - value
        steps.append(f"{total}{sign}{value}={result}")
        total = result
    return total, steps


def _pick(scene: Scene, rng: np.random.Generator, count: int) -> list[str]:
    return [str(name) for name in rng.permutation(list(scene.values))[:count]]


def _read(scene: Scene, rng: np.random.Generator) -> Question:
    (a,) = _pick(scene, rng, 1)
    return Question(f"What is {scene.noun(a)}?", str(scene.values[a]), (a,), ())


def _compare(scene: Scene, rng: np.random.Generator) -> Question:
    a, b = _pick(scene, rng, 2)
    bigger = a if scene.values[a] > scene.values[b] else b
    text = f"Which is larger, {scene.noun(a)} or {scene.noun(b)}?"
    high, low = sorted((scene.values[a], scene.values[b]), reverse=True)
    return Question(text, bigger, (a, b), (f"{high}>{low}",))


def _sum(scene: Scene, rng: np.random.Generator) -> Question:
    a, b = _pick(scene, rng, 2)
    total, steps = chain([scene.values[a], scene.values[b]], "+")
    return Question(f"What is {scene.noun(a)} plus {scene.noun(b)}?", str(total), (a, b), tuple(steps))


def _difference(scene: Scene, rng: np.random.Generator) -> Question:
    a, b = sorted(_pick(scene, rng, 2), key=lambda name: -scene.values[name])
    total, steps = chain([scene.values[a], scene.values[b]], "-")
    return Question(f"What is {scene.noun(a)} minus {scene.noun(b)}?", str(total), (a, b), tuple(steps))


def _largest(scene: Scene, rng: np.random.Generator) -> Question:
    return _extreme(scene, "largest")


def _smallest(scene: Scene, rng: np.random.Generator) -> Question:
    return _extreme(scene, "smallest")


def _extreme(scene: Scene, word: str) -> Question:
    names = tuple(scene.values)
    value, step = _extreme_step(scene, word)
    return Question(f"What is the {word} value?", str(value), names, (step,))


def _extreme_step(scene: Scene, word: str) -> tuple[int, str]:
    value = (max if word == "largest" else min)(scene.values.values())
    listing = " ".join(str(v) for v in scene.values.values())
    return value, f"{word} of {listing} is {value}"


def _total(scene: Scene, rng: np.random.Generator) -> Question:
    names = tuple(scene.values)
    total, steps = chain([scene.values[name] for name in names], "+" * (len(names) - 1))
    return Question("What is the sum of all values?", str(total), names, tuple(steps))


def _plus_minus(scene: Scene, rng: np.random.Generator) -> Question:
    a, b, c = _pick(scene, rng, 3)
    if scene.values[a] + scene.values[b] < scene.values[c]:
        c, a = a, c
    total, steps = chain([scene.values[n] for n in (a, b, c)], "+-")
    text = f"What is {scene.noun(a)} plus {scene.noun(b)} minus {scene.noun(c)}?"
    return Question(text, str(total), (a, b, c), tuple(steps))


def _range(scene: Scene, rng: np.random.Generator) -> Question:
    (high, first), (low, second) = _extreme_step(scene, "largest"), _extreme_step(scene, "smallest")
    steps = (first, second, f"{high}-{low}={high - low}")
    text = "What is the largest value minus the smallest value?"
    return Question(text, str(high - low), tuple(scene.values), steps)


TASKS: dict[str, dict[str, Task]] = {
    "easy": {"read": _read, "compare": _compare},
    "normal": {"sum": _sum, "difference": _difference, "largest": _largest, "smallest": _smallest},
    "hard": {"total": _total, "plus_minus": _plus_minus, "range": _range},
}
NUM_OBJECTS: dict[str, tuple[int, int]] = {"easy": (2, 2), "normal": (3, 3), "hard": (3, 4)}
"""Fewest and most objects of a scene."""


def make_item(
    domain: str,
    difficulty: str,
    split: Split,
    rng: np.random.Generator,
    *,
    task: str | None = None,
    num_objects: int | None = None,
    choice_share: float = 0.5,
) -> Item:
    """One item; a `choice_share` of them are multiple choice, the others fill-in-the-blank."""
    task = task or str(rng.choice(list(TASKS[difficulty])))
    low, high = NUM_OBJECTS[difficulty]

    def draw() -> tuple[Scene, Question]:
        while True:
            scene = make_scene(domain, num_objects or int(rng.integers(low, high + 1)), rng)
            if task != "compare" or len(set(scene.values.values())) == len(scene.values):
                return scene, TASKS[difficulty][task](scene, rng)

    while True:
        scene, question = draw()
        choices: tuple[str, ...] = ()
        if rng.random() < choice_share:
            if task == "compare":
                choices = tuple(str(name) for name in rng.permutation(list(question.used)))
            else:
                scene, question, choices = _with_choices(draw, rng)
        image = draw_scene(scene, split, rng)
        if image is not None:
            return Item(scene, image, question, choices, difficulty, task)


def _with_choices(
    draw: Callable[[], tuple[Scene, Question]], rng: np.random.Generator
) -> tuple[Scene, Question, tuple[str, ...]]:
    """Sibling questions drawn together until their answers differ; the first is asked, all answers are options.

    The siblings are exchangeable, so that the options alone say nothing about which is right.
    """
    for attempt in range(1000):
        siblings = [draw() for _ in range(4 if attempt < 30 else 3 if attempt < 60 else 2)]
        answers = [question.answer for _, question in siblings]
        if len(set(answers)) == len(answers):
            scene, question = siblings[0]
            return scene, question, tuple(str(a) for a in rng.permutation(answers))
    raise AssertionError("a task whose answers never differ cannot be multiple choice")
