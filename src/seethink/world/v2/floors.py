"""What can be scored without seeing: the most frequent answer, the words alone, and the nearest picture's answer.

Each is learnt from items that the base model may train on, and scored on the items of evaluations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from seethink.core.statistics import mean_se
from seethink.world.questions import LETTERS
from seethink.world.v2.items import Item, Key, make_item
from seethink.world.v2.scene import LEVELS

COARSE = 4
"""Pixels per side of the blocks that pictures are averaged over before they are compared."""


@dataclass(frozen=True, slots=True)
class Floor:
    """Accuracies without sight on one domain, in one form, each with its standard error over items.

    Example: `Floor("dice", "choice", 200, chance=0.27, prior=(0.26, 0.03), words=(0.25, 0.03), nearest=(0.28, 0.03))`
    """

    domain: str
    form: str
    """`fill-in` or `choice`."""
    n: int
    chance: float
    """One over the number of options, over the items; NaN for fill-in."""
    prior: tuple[float, float]
    """The most frequent answer of the domain and level."""
    words: tuple[float, float]
    """The most frequent answer of the question's form; of options the place or rank that is most often right."""
    nearest: tuple[float, float]
    """The answer of the most similar picture among those with the question's form."""


def draw(domain: str, stage: str, split: str, count: int, seed: int) -> list[Item]:
    """`count` items with levels in turn, half of them multiple choice."""
    keys = [divmod(i, len(LEVELS)) for i in range(count)]
    return [make_item(Key(seed, stage, split, domain, LEVELS[level], index)) for index, level in keys]  # type: ignore[arg-type]


def floors(domain: str, count: int, seed: int = 0) -> list[Floor]:
    """The floors of a domain: learnt from `4 * count` items, scored on `count`."""
    learnt = draw(domain, "base", "train", 4 * count, seed)
    asked = draw(domain, "eval", "test", count, seed)
    found = []
    for form, is_choice in (("fill-in", False), ("choice", True)):
        train = [item for item in learnt if bool(item.choices) == is_choice]
        test = [item for item in asked if bool(item.choices) == is_choice]
        if not train or not test:
            continue
        chance = float(np.mean([1 / len(item.choices) for item in test])) if is_choice else float("nan")
        scores = [
            _score(test, guesses) for guesses in (_prior(train, test), _words(train, test), _nearest(train, test))
        ]
        found.append(Floor(domain, form, len(test), chance, *scores))
    return found


def _score(test: Sequence[Item], guesses: Sequence[str]) -> tuple[float, float]:
    return mean_se([float(guess in item.answers) for item, guess in zip(test, guesses, strict=True)])


def question_form(item: Item) -> tuple[Hashable, ...]:
    """What the words say without naming anything: task, level, signs and the number asked for."""
    problem = item.problem
    return problem.family, problem.task, item.key.level, problem.signs, problem.number, len(item.choices)


def _prior(train: Sequence[Item], test: Sequence[Item]) -> list[str]:
    return _majority(train, test, lambda item: (item.key.level, len(item.choices)), lambda item: item.answer)


def _words(train: Sequence[Item], test: Sequence[Item]) -> list[str]:
    """By the form of the question; of options, by the better of place and rank on the training items."""
    if not test[0].choices:
        return _majority(train, test, question_form, lambda item: item.answer)
    by_place = _option_guesser(train, lambda item, text: item.choices.index(text))
    by_rank = _option_guesser(train, _rank)
    best = max((by_place, by_rank), key=lambda guess: sum(guess(item) == item.answer for item in train))
    return [best(item) for item in test]


def _rank(item: Item, text: str) -> int:
    return sorted(item.choices, key=lambda choice: (len(choice), choice)).index(text)


def _option_guesser(train: Sequence[Item], feature: Callable[[Item, str], int]) -> Callable[[Item], str]:
    """The option whose feature is most often that of the right one."""
    seen: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for item in train:
        where = (item.problem.task, item.key.level, len(item.choices))
        seen[where][feature(item, item.problem.answer)] += 1

    def guess(item: Item) -> str:
        counts = seen[item.problem.task, item.key.level, len(item.choices)]
        text = max(item.choices, key=lambda choice: counts[feature(item, choice)])
        return LETTERS[item.choices.index(text)]

    return guess


def _majority(
    train: Sequence[Item],
    test: Sequence[Item],
    group: Callable[[Item], Hashable],
    answer: Callable[[Item], str],
) -> list[str]:
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for item in train:
        counts[group(item)][answer(item)] += 1
    overall = Counter(answer(item) for item in train).most_common(1)[0][0]
    return [counts[key].most_common(1)[0][0] if (key := group(item)) in counts else overall for item in test]


def _nearest(train: Sequence[Item], test: Sequence[Item]) -> list[str]:
    """The answer of the nearest training picture with the question's task and level, else of the nearest of all."""
    known, asked = coarse(train), coarse(test)
    distances = (asked**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * asked @ known.T
    forms = [(item.problem.task, item.key.level) for item in train]
    guesses = []
    for item, row in zip(test, distances, strict=True):
        own = np.array([form == (item.problem.task, item.key.level) for form in forms])
        at = int(np.argmin(np.where(own, row, np.inf) if own.any() else row))
        guesses.append(_as_option(item, train[at]))
    return guesses


def _as_option(item: Item, like: Item) -> str:
    """The neighbour's answer as an answer to `item`: the option with its text, else its letter."""
    if not item.choices:
        return like.problem.answer
    if like.problem.answer in item.choices:
        return LETTERS[item.choices.index(like.problem.answer)]
    return LETTERS[LETTERS.index(like.answer) % len(item.choices)]


def coarse(items: Sequence[Item]) -> np.ndarray:
    """[N, 28 * 28 * 3] block means of the pictures."""
    rows = [np.asarray(item.image.reduce(COARSE), np.float32).ravel() for item in items]
    return np.stack(rows) / 255
