"""The conversations that a nano base model is trained on: captions, direct answers, text-only practice, no trace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL.Image import Image

from seethink.world.draw import COLORS
from seethink.world.questions import LETTERS, TASKS, Item, chain, make_item
from seethink.world.scenes import OTHER_DOMAINS
from seethink.world.trace import caption, direct_answer

MATH_SHARE, TEXT_SHARE, PRACTICE_SHARE = 0.4, 0.1, 0.75

Turn = tuple[str, str]
"""(question, answer)"""


def pick_domain(rng: np.random.Generator) -> str:
    return "math" if rng.random() < MATH_SHARE else str(rng.choice(OTHER_DOMAINS))


def conversation(rng: np.random.Generator) -> tuple[Image | None, list[Turn]]:
    """A picture (or None) and the turns about it."""
    if rng.random() < TEXT_SHARE:
        return None, [_arithmetic(rng) for _ in range(4)]
    domain = pick_domain(rng)
    num_objects = int(rng.integers(1, 5))
    fitting = [d for d, fewest in (("easy", 2), ("normal", 2), ("hard", 3)) if num_objects >= fewest]
    difficulty = str(rng.choice(fitting)) if fitting else "easy"
    item = make_item(domain, difficulty, "train", rng, num_objects=num_objects, task=None if fitting else "read")
    turns = [("Describe the image.", caption(item)), (item.prompt, direct_answer(item.answer))]
    if not item.choices:
        turns.append(_another_question(item, rng))
    return item.image, [turns[i] for i in rng.permutation(len(turns))]


def perception(rng: np.random.Generator) -> tuple[Image | None, list[Turn]]:
    """A picture and questions about what it shows, with nothing to compute, compare or choose."""
    item = make_item(
        pick_domain(rng), "easy", "train", rng, num_objects=int(rng.integers(1, 5)), task="read", choice_share=0.0
    )
    turns = [("Describe the image.", caption(item)), (item.prompt, direct_answer(item.answer))]
    turns.append(_another_question(item, rng))
    return item.image, [turns[i] for i in rng.permutation(len(turns))]


def _another_question(item: Item, rng: np.random.Generator) -> Turn:
    """A reading question about the same picture."""
    question = TASKS["easy"]["read"](item.scene, rng)
    return question.text, direct_answer(question.answer)


def _arithmetic(rng: np.random.Generator) -> Turn:
    a, b, c = (int(v) for v in rng.integers(0, 19, size=3))
    kind = int(rng.integers(4))
    if kind == 0:
        return f"What is {a} plus {b % 10}?", direct_answer(str(a + b % 10))
    if kind == 1:
        a, b = max(a, b), min(a, b)
        return f"What is {a} minus {b}?", direct_answer(str(a - b))
    if kind == 2:
        total, _ = chain([a % 10, b % 10, min(c % 10, a % 10 + b % 10)], "+-")
        return f"What is {a % 10} plus {b % 10} minus {min(c % 10, a % 10 + b % 10)}?", direct_answer(str(total))
    word, pick = (("largest", max), ("smallest", min))[int(rng.integers(2))]
    values = (a % 13, b % 13, c % 13)
    return f"What is the {word} of {values[0]} {values[1]} {values[2]}?", direct_answer(str(pick(values)))


def practice(rng: np.random.Generator) -> tuple[Image | None, list[Turn]]:
    """A conversation of the last phase."""
    if rng.random() >= PRACTICE_SHARE:
        return conversation(rng)
    return None, [_practice_turn(rng) for _ in range(3)]


def _practice_turn(rng: np.random.Generator) -> Turn:
    return list(PRACTICE.values())[int(rng.integers(len(PRACTICE)))](rng)


def _sum(rng: np.random.Generator) -> Turn:
    a, b = int(rng.integers(0, 31)), int(rng.integers(0, 13))
    return (f"Compute {a} plus {b}.", f"{a}+{b}={a + b}.") if rng.random() < 0.6 else _minus(a, b)


def _listing(rng: np.random.Generator) -> tuple[str, dict[str, int], str, str]:
    """(a sentence that says the value of each name, the values, two of the names)."""
    names = [str(name) for name in rng.permutation(list(COLORS))[: int(rng.integers(2, 5))]]
    values = {name: int(rng.integers(0, 13)) for name in names}
    a, b = (str(name) for name in rng.permutation(names)[:2])
    return " ".join(f"{name} is {value}." for name, value in values.items()), values, a, b


def _recall(rng: np.random.Generator) -> Turn:
    listing, values, a, _ = _listing(rng)
    return f"{listing} What is {a}?", direct_answer(str(values[a]))


def _named_sum(rng: np.random.Generator) -> Turn:
    listing, values, a, b = _listing(rng)
    return f"{listing} Compute {a} plus {b}.", f"{values[a]}+{values[b]}={values[a] + values[b]}."


def _minus(a: int, b: int) -> Turn:
    a, b = max(a, b), min(a, b)
    return f"Compute {a} minus {b}.", f"{a}-{b}={a - b}."


def _find_option(rng: np.random.Generator) -> Turn:
    """Which letter stands before a text."""
    texts = [str(v) for v in rng.permutation(20)[:4]] if rng.random() < 0.8 else list(rng.permutation(list(COLORS))[:2])
    options = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))
    at = int(rng.integers(len(texts)))
    return f"Which option is {texts[at]}?{options}", direct_answer(LETTERS[at])


PRACTICE: dict[str, Callable[[np.random.Generator], Turn]] = {
    "option": _find_option,
    "sum": _sum,
    "recall": _recall,
    "named_sum": _named_sum,
}
"""Kinds of text-only practice."""
