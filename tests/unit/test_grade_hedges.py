# ruff: noqa: E501  (a table of templates reads better with long lines)
"""More than one answer, or a denied one, earns nothing; the same words around one clear answer cost nothing.

Thousands of responses are made from templates: {x} is the right answer, {y} and {z} are others of the same type.
"""

import itertools
import random

import pytest

from seethink.core.types import Verdict
from seethink.rewards.grader import grade

COLOURS = ["red", "blue", "green", "yellow"]
PLACES = ["Lake Geneva", "Mount Fuji", "Sahara"]

TYPES: dict[str, tuple[list[str] | None, list[str], dict[str, str]]] = {
    # name: (choices, answers, gold of an answer where it isn't the answer itself)
    "letter": (COLOURS, ["A", "B", "C", "D"], {}),
    "lone letter": (None, ["A", "C", "D"], {}),
    "option text": (COLOURS, COLOURS, {}),
    "number": (None, ["5", "6", "17", "120"], {}),
    "decimal": (None, ["2.5", "3.75", "0.4"], {}),
    "fraction": (None, ["\\frac{1}{2}", "\\frac{3}{4}", "\\frac{5}{3}"], {}),
    "text": (None, ["cat", "dog", "horse"], {}),
    "name": (None, PLACES, {}),
    "date": (None, ["2024-01-02", "2024-02-01", "2021-05-06"], {}),
    "score": (None, ["3-2", "2-3", "4-1"], {}),
    "time": (None, ["7:45", "8:15", "12:30"], {}),
}

HEDGES = [
    "{x} or {y}", "{y} or {x}", "Either {x} or {y}", "{x} and {y}", "{y} and {x}", "Both {x} and {y}", "{x}, {y}", "{y}, {x}",
    "{x}; {y}", "{x}, also {y}", "{y}, also {x}", "{x} as well as {y}", "{y} as well as {x}", "{x}, maybe {y}",
    "{y}, maybe {x}", "{x} and/or {y}", "{x} (or {y})", "{x}, or possibly {y}", "{x}\n{y}", "{y}\n{x}", "{x}, {y}, {z}",
    "{x}, {y} and {z}", "It is {x} or {y}.", "It is either {y} or {x}.", "The answer is {x} or {y}.",
    "The answer is {y} or {x}.", "The answer is {x} and {y}.", "The answer is {x}, or maybe {y}.",
    "The answer is {y}, but possibly {x}.", "The answer is {x}, also {y}.", "Answer: {x}, {y}", "Answer: {y} or {x}",
    "Final answer: either {x} or {y}", "\\boxed{{x}} or \\boxed{{y}}", "\\boxed{{y}} or \\boxed{{x}}",
    "\\boxed{{x}} and \\boxed{{y}}", "\\boxed{{y}}, \\boxed{{x}}", "\\boxed{{y}} and also \\boxed{{x}}",
    "\\boxed{{x} \\text{ or } {y}}", "\\boxed{{y}, {x}}", "\\boxed{{x}} or {y}", "<answer>{x} or {y}</answer>",
    "<answer>{y}, {x}</answer>", "<answer>{x}</answer><answer>{y}</answer>", "<answer>{y}</answer> <answer>{x}</answer>",
    "<answer>{y}</answer> or <answer>{x}</answer>", "**{x}** or **{y}**", "{x} because it is {y}",
    "The answer is {x}, because it is {y}", "The answer is {y}, because it is {x}",
]  # fmt: skip
DENIALS = [
    "not {x}", "It is not {x}.", "It isn't {x}.", "The answer is not {x}.", "The answer isn't {x}", "It cannot be {x}.",
    "It can't be {x}", "{x} is wrong", "{x} is incorrect.", "{x} is not the answer.", "{x} is not right", "{x} is false",
    "{x} cannot be right", "{x} isn't correct.", "anything but {x}", "Anything but: {x}", "The answer is anything but {x}.",
    "The answer is anything but: {x}", "everything except {x}", "{y} rather than {x}", "{y} instead of {x}", "{y}, not {x}",
    "The answer is {y}, not {x}.", "The answer is {y} rather than {x}.", "neither {x} nor {y}", "neither {y} nor {x}",
    "It is neither {y} nor {x}.", "\\boxed{{x}} is wrong.", "\\boxed{{x}} is not the answer", "It is not \\boxed{{x}}",
    "The answer is not \\boxed{{x}}.", "The answer is never {x}", "I would say anything but \\boxed{{x}}",
    "The answer is {x}? No, that is wrong.", "not <answer>{x}</answer>", "\\boxed{\\text{not }{x}}",
    "<answer>not {x}</answer>", "The answer cannot be {x}.", "It is unlikely to be {x}; I cannot tell.",
    "The answer is {x}. No, that is wrong.", "\\boxed{{x}}. Wait, that is wrong.", "Answer: {x} is wrong",
    "不是{x}", "答案不是{x}",
]  # fmt: skip
RIGHT = [
    "{x}", "{x}.", "**{x}**", "The answer is {x}.", "Answer: {x}", "Final answer: **{x}**", "\\boxed{{x}}", "$\\boxed{{x}}$",
    "<answer>{x}</answer>", "<answer> {x} </answer>.", "So the answer is \\boxed{{x}}.", "{x}, not {y}",
    "{x} rather than {y}", "{x} instead of {y}", "The answer is {x}, not {y}.", "The answer is {x} rather than {y}.",
    "The answer is not {y} but {x}.", "It cannot be {y}, so the answer is {x}.", "{y} is wrong; the answer is {x}.",
    "I first thought {y}, but the answer is {x}.", "\\boxed{{y}} is wrong. It must be \\boxed{{x}}.",
    "It is not {y}. The answer is {x}.", "{y} or {z}? Neither: the answer is {x}.", "The answer is {y}. Wait, no: the answer is {x}.",
    "<answer>{y}</answer> Wait, I made a mistake. <answer>{x}</answer>", "Not {y}: \\boxed{{x}}",
    "The answer could be {y} or {z}, but on reflection the answer is {x}.", "<think>{y} or {z}?</think> {x}",
    "<thinking>not {x}</thinking> \\boxed{{x}}", "The answer is {x}, because the other ones do not fit.",
    "Answer: {x}\n\nThe others do not fit.", "答案是{x}。", "答案：{x}", "The answer is \\boxed{{x}}, not {y}.",
    "I considered {y} and {z}, and ruled both out. The answer is {x}.", "It can't be {y}, so it is {x}.",
]  # fmt: skip


def filled(template: str, x: str, y: str, z: str) -> str:
    return template.replace("{x}", x).replace("{y}", y).replace("{z}", z)


def made(templates: list[str], kind: str) -> list[tuple[str, str, list[str] | None]]:
    choices, answers, _ = TYPES[kind]
    return [
        (filled(template, x, y, z), x, choices)
        for template in templates
        for x, y, z in itertools.permutations(answers, 3)
    ]


def judged(items: list[tuple[str, str, list[str] | None]], correct: bool) -> list[tuple[str, str]]:
    """The items whose verdict is another one."""
    return [
        (response, gold)
        for response, gold, choices in items
        if (grade(response, gold, None, choices).verdict is Verdict.CORRECT) != correct
    ]


@pytest.mark.parametrize("kind", TYPES)
def test_hedges_earn_nothing(kind: str) -> None:
    assert judged(random.Random(0).sample(made(HEDGES, kind), 120), correct=False) == []


@pytest.mark.parametrize("kind", TYPES)
def test_denials_earn_nothing(kind: str) -> None:
    assert judged(random.Random(0).sample(made(DENIALS, kind), 120), correct=False) == []


@pytest.mark.parametrize("kind", TYPES)
def test_one_clear_answer_stays_right(kind: str) -> None:
    assert judged(random.Random(0).sample(made(RIGHT, kind), 120), correct=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_all_of_them(kind: str) -> None:
    assert judged(made(HEDGES + DENIALS, kind), correct=False) == []
    assert judged(made(RIGHT, kind), correct=True) == []


def right(response: str, gold: str, choices: list[str] | None = None) -> bool:
    return grade(response, gold, None, choices).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    "response",
    [
        "B is the only option ruled out.", "B was the one eliminated.", "B has been ruled out.", "B gets eliminated.",
        "B is the option we can rule out.", "B is the one I would exclude", "Option B is the choice that was rejected.",
        "The answer is B, which is ruled out.",
    ],
)  # fmt: skip
def test_an_option_that_is_ruled_out_is_no_answer(response: str) -> None:
    assert not right(response, "B", ["3", "5", "7", "9"])


@pytest.mark.parametrize(
    "response",
    [
        "B is the only option left.", "B is the only option not ruled out.", "B is the only option that cannot be ruled out.",
        "B is the one that fits.", "A is ruled out; B is right.",
    ],
)  # fmt: skip
def test_an_option_that_is_left_is_an_answer(response: str) -> None:
    assert right(response, "B", ["3", "5", "7", "9"])
