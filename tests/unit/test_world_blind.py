"""Without the picture the world cannot be answered: the best guess from the words alone is at chance."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from seethink.core.types import Sample
from seethink.world.make import world_samples
from seethink.world.questions import LETTERS, NUM_OBJECTS, TASKS
from seethink.world.scenes import DOMAINS, make_scene

pytestmark = pytest.mark.slow
TRAIN, TEST = 3000, 1500
Cell = tuple[str, str]


@cache
def drawn(split: str) -> list[Sample]:
    """Fresh items of all domains and difficulties."""
    return world_samples("world:all", split, TRAIN if split == "train" else TEST, seed=11)


def cell(sample: Sample) -> Cell:
    """Task and domain: what the wording of a question gives away without saying anything of the picture."""
    return str(sample.meta["task"]), sample.domain


def features(sample: Sample) -> list[str]:
    """Words, ordered pairs of words, and what stands in each option with its rank."""
    words = re.findall(r"[a-z]+", sample.question.split("\n")[0].lower())
    colors = [w for w in words if w in ("red", "green", "blue", "orange", "purple", "black")]
    found = [f"word {w}" for w in words] + [f"at {i} {c}" for i, c in enumerate(colors)]
    found += [f"number of words {len(words)}", f"options {len(sample.choices)}"]
    return [*found, *(f"option {letter} {text}" for letter, text in zip(LETTERS, sample.choices, strict=False))]


def option_features(sample: Sample, letter: str) -> list[str]:
    """One option as a candidate: its place, its text, its rank among the options, whether the question names it."""
    index = LETTERS.index(letter)
    text = sample.choices[index]
    named = re.findall(r"red|green|blue|orange|purple|black", sample.question.split("\n")[0])
    rank = sorted(sample.choices, key=lambda c: (len(c), c)).index(text)
    count = len(sample.choices)
    place = f"named {named.index(text)}" if text in named else "unnamed"
    return [f"place {letter} of {count}", f"text {text}", f"rank {rank} of {count}", place]


class NaiveBayes:
    """Counts with add-one smoothing, one table a cell."""

    def __init__(self) -> None:
        self.labels: dict[Cell, Counter[str]] = defaultdict(Counter)
        self.counts: dict[tuple[Cell, str], Counter[str]] = defaultdict(Counter)

    def learn(self, where: Cell, label: str, found: list[str]) -> None:
        self.labels[where][label] += 1
        self.counts[where, label].update(found)

    def score(self, where: Cell, label: str, found: list[str]) -> float:
        seen = self.labels[where][label]
        total = math.log(seen + 1)
        return total + sum(math.log((self.counts[where, label][f] + 1) / (seen + 2)) for f in found)


def multiple_choice(split: str) -> list[Sample]:
    return [s for s in drawn(split) if s.choices]


def fill_in(split: str) -> list[Sample]:
    return [s for s in drawn(split) if not s.choices]


def assert_at_chance(hits: list[bool], chances: list[float], what: str) -> None:
    chance, n = float(np.mean(chances)), len(hits)
    stderr = math.sqrt(sum(p * (1 - p) for p in chances)) / n
    accuracy = float(np.mean(hits))
    assert accuracy <= chance + 3 * stderr, f"{what}: {accuracy:.3f} of {n}, chance is {chance:.3f} ± {stderr:.3f}"


def per_task(samples: list[Sample], hits: list[bool], chances: list[float], what: str) -> None:
    """Overall, and for every task, so that a leak in one is not drowned by the others."""
    assert_at_chance(hits, chances, what)
    for task in sorted({s.meta["task"] for s in samples}):
        rows = [i for i, s in enumerate(samples) if s.meta["task"] == task]
        assert_at_chance([hits[i] for i in rows], [chances[i] for i in rows], f"{what}, task {task}")


def test_guessing_the_letter_from_the_words() -> None:
    model = NaiveBayes()
    for s in multiple_choice("train"):
        model.learn(cell(s), s.answer, features(s))
    samples = multiple_choice("test")
    assert len(samples) > 600
    hits = [
        s.answer == max(LETTERS[: len(s.choices)], key=lambda a, s=s: model.score(cell(s), a, features(s)))
        for s in samples
    ]
    per_task(samples, hits, [1 / len(s.choices) for s in samples], "letter from words")


def test_guessing_the_option_from_its_looks() -> None:
    model = NaiveBayes()
    for s in multiple_choice("train"):
        for letter in LETTERS[: len(s.choices)]:
            model.learn(cell(s), str(letter == s.answer), option_features(s, letter))
    samples = multiple_choice("test")

    def odds(s: Sample, letter: str) -> float:
        found = option_features(s, letter)
        return model.score(cell(s), "True", found) - model.score(cell(s), "False", found)

    hits = [s.answer == max(LETTERS[: len(s.choices)], key=lambda a, s=s: odds(s, a)) for s in samples]
    per_task(samples, hits, [1 / len(s.choices) for s in samples], "option from its looks")


@cache
def constant_chance(where: Cell) -> float:
    """Accuracy of the best constant answer, from the prior; a comparison names its two candidates."""
    task, domain = where
    if task == "compare":
        return 0.5
    rng = np.random.default_rng(0)
    level = next(level for level, tasks in TASKS.items() if task in tasks)
    low, high = NUM_OBJECTS[level]
    answers = Counter(
        TASKS[level][task](make_scene(domain, int(rng.integers(low, high + 1)), rng), rng).answer for _ in range(2000)
    )
    return answers.most_common(1)[0][1] / answers.total()


def test_guessing_the_fill_in_answer_from_the_words() -> None:
    model = NaiveBayes()
    for s in fill_in("train"):
        model.learn(cell(s), s.answer, features(s))
    samples = fill_in("test")
    assert len(samples) > 600

    def guess(s: Sample) -> str:
        known = model.labels[cell(s)]
        named = re.findall(r"red|green|blue|orange|purple|black", s.question)
        candidates = named if s.meta["task"] == "compare" else list(known)
        return max(candidates, key=lambda a: model.score(cell(s), a, features(s)))

    hits = [guess(s) == s.answer for s in samples]
    per_task(samples, hits, [constant_chance(cell(s)) for s in samples], "fill-in from words")


def test_the_predictor_can_see_a_leak() -> None:
    """The same predictor on options whose right one is always the largest: far above chance."""
    model = NaiveBayes()
    leaky = [
        Sample(
            id=s.id,
            question=s.question,
            choices=s.choices,
            answer=LETTERS[s.choices.index(max(s.choices, key=lambda c: (len(c), c)))],
            domain=s.domain,
            meta=s.meta,
        )
        for s in [*multiple_choice("train"), *multiple_choice("test")]
    ]
    half = len(multiple_choice("train"))
    for s in leaky[:half]:
        for letter in LETTERS[: len(s.choices)]:
            model.learn(cell(s), str(letter == s.answer), option_features(s, letter))

    def odds(s: Sample, letter: str) -> float:
        found = option_features(s, letter)
        return model.score(cell(s), "True", found) - model.score(cell(s), "False", found)

    hits = [s.answer == max(LETTERS[: len(s.choices)], key=lambda a, s=s: odds(s, a)) for s in leaky[half:]]
    with pytest.raises(AssertionError, match="chance is"):
        assert_at_chance(hits, [1 / len(s.choices) for s in leaky[half:]], "leaky")


@pytest.mark.parametrize("task", [task for tasks in TASKS.values() for task in tasks])
def test_answers_are_varied(task: str) -> None:
    """No constant answer does well, so that chance stays low."""
    assert all(constant_chance((task, domain)) <= 0.6 for domain in DOMAINS)
