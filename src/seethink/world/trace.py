"""The texts of a teacher about an item: captions, direct answers and reasoning traces.

Some traces are wrong, rambling or mixed in language on purpose (shares below), so that rejection sampling and
the cold-start filters have work to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seethink.world.questions import LETTERS, Item, Question, chain

WRONG_SHARE, RAMBLING_SHARE, MIXED_SHARE = 0.15, 0.04, 0.03
TURN_SHARE = {"easy": 0.0, "normal": 0.15, "hard": 0.6}
"""How often a trace turns with "Wait" or "Alternatively", by difficulty."""


def caption(item: Item) -> str:
    """Every quantity of the picture in reading order."""
    return " ".join(f"{name} is {value}." for name, value in item.scene.values.items())


def direct_answer(answer: str) -> str:
    return f"The answer is {answer}."


def teacher_trace(item: Item, rng: np.random.Generator) -> str:
    """`<think>...</think>The answer is X.`, now and then flawed."""
    fate = rng.random()
    if fate < WRONG_SHARE:
        return _wrong_trace(item, rng)
    body = _think(item, item.question, rng)
    if fate < WRONG_SHARE + RAMBLING_SHARE:
        body += " Wait, let me check again." * int(rng.integers(8, 16))
    elif fate < WRONG_SHARE + RAMBLING_SHARE + MIXED_SHARE:
        body = body.replace(". ", "。 所以 ")
    return _close(body, item.answer)


def good_trace(item: Item, rng: np.random.Generator) -> str:
    """A trace without the deliberate flaws."""
    return _close(_think(item, item.question, rng), item.answer)


def _close(body: str, answer: str) -> str:
    return f"<think>{body}</think>{direct_answer(answer)}"


def _think(item: Item, question: Question, rng: np.random.Generator) -> str:
    lines = [f"{name} is {item.scene.values[name]}." for name in question.used]
    steps = [f"{step}." for step in question.steps]
    if rng.random() < TURN_SHARE[item.difficulty]:
        lines, steps = _turn(item, question, lines, steps, rng)
    if item.choices:
        steps.append(f"{question.answer} is {item.answer}.")
    return " ".join([*lines, *steps])


def _turn(
    item: Item, question: Question, lines: list[str], steps: list[str], rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """One change of course: a slip that is corrected, a second look, or another order of computing."""
    values = item.scene.values
    name = str(rng.choice(list(question.used)))
    kind = int(rng.integers(3))
    if kind == 0:
        slip = (values[name] + int(rng.integers(1, 9))) % 10
        at = question.used.index(name)
        return [*lines[:at], f"{name} is {slip}. Wait, {lines[at]}", *lines[at + 1 :]], steps
    if kind == 1 or item.task not in ("total", "sum"):
        return [*lines, f"Wait, {name} is {values[name]}."], steps
    order = [values[n] for n in reversed(question.used)]
    _, again = chain(order, "+" * (len(order) - 1))
    return lines, [*steps, "Alternatively, " + " ".join(f"{step}." for step in again)]


def _wrong_trace(item: Item, rng: np.random.Generator) -> str:
    """A misread quantity or a wrong last step, carried through to a wrong answer."""
    lines = [f"{name} is {item.scene.values[name]}." for name in item.question.used]
    at = int(rng.integers(len(lines)))
    name = item.question.used[at]
    lines[at] = f"{name} is {(item.scene.values[name] + int(rng.integers(1, 9))) % 10}."
    answer = _other_answer(item, rng)
    steps = [f"{step}." for step in item.question.steps[:-1]]
    return _close(" ".join([*lines, *steps, f"so {answer}."]), answer)


def _other_answer(item: Item, rng: np.random.Generator) -> str:
    if item.choices:
        return _choose([letter for letter in LETTERS[: len(item.choices)] if letter != item.answer], rng)
    if item.question.answer.isdigit():
        return str(int(item.question.answer) + int(rng.integers(1, 4)))
    return _choose([name for name in item.scene.values if name != item.question.answer], rng)


def _choose(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
