"""Lists and sets: another list earns nothing, whether it is doubled, padded with every candidate, cut or changed."""

import random
from collections.abc import Callable

import pytest

from seethink.core.types import Verdict
from seethink.rewards.grader import grade

CANDIDATES = 32
GOLDS: dict[str, Callable[[list[str]], str]] = {
    "list": ", ".join,
    "set": lambda items: "\\{" + ", ".join(items) + "\\}",
    "or": lambda items: " \\text{ or } ".join(f"x={item}" for item in items),
    "and": " and ".join,
}
DRESSES = [
    "\\boxed{{{}}}", "{}", "The answer is {}.", "<answer>{}</answer>", "$\\{{{}\\}}$", "\\boxed{{\\{{{}\\}}}}",
]  # fmt: skip


def drawn(rng: random.Random) -> list[str]:
    return [str(number) for number in rng.sample(range(1, CANDIDATES + 1), rng.randint(2, 4))]


def every_candidate(items: list[str], rng: random.Random) -> list[str]:
    return [str(number) for number in range(1, CANDIDATES + 1)]


def doubled(items: list[str]) -> list[str]:
    return [item for item in items for _ in range(2)]


def changed(items: list[str], rng: random.Random) -> list[str]:
    place = rng.randrange(len(items))
    return [str(int(item) + CANDIDATES) if i == place else item for i, item in enumerate(items)]


def padded(items: list[str], rng: random.Random) -> list[str]:
    return [*items, str(CANDIDATES + rng.randint(1, 9))]


def cut(items: list[str], rng: random.Random) -> list[str]:
    return items[1:]


WRONG: list[Callable[[list[str], random.Random], list[str]]] = [
    every_candidate,
    lambda items, rng: doubled(every_candidate(items, rng)),
    changed,
    lambda items, rng: doubled(changed(items, rng)),
    padded,
    lambda items, rng: doubled(padded(items, rng)),
    lambda items, rng: [*items, *doubled(padded(items, rng)[-1:])],
    cut,
    lambda items, rng: doubled(cut(items, rng)),
]


def made(kind: str, count: int, seed: int) -> list[tuple[str, str, bool]]:
    """(response, gold, whether it is right)."""
    rng = random.Random(seed)
    result = []
    for number in range(count):
        items = drawn(rng)
        dress = DRESSES[number % len(DRESSES)]
        for wrong in WRONG:
            result.append((dress.format(", ".join(wrong(items, rng))), GOLDS[kind](items), False))
        for right in (items, items[::-1], doubled(items)):
            result.append((dress.format(", ".join(right)), GOLDS[kind](items), True))
        boxes = " and ".join(f"\\boxed{{{item}}}" for item in items)
        result.append((boxes, GOLDS[kind](items), True))
        result.append((boxes + f" and \\boxed{{{CANDIDATES + 1}}}", GOLDS[kind](items), False))
    return result


def judged(items: list[tuple[str, str, bool]]) -> list[tuple[str, str]]:
    return [
        (response, gold)
        for response, gold, right in items
        if (grade(response, gold).verdict is Verdict.CORRECT) != right
    ]


@pytest.mark.parametrize("kind", GOLDS)
def test_other_lists_earn_nothing(kind: str) -> None:
    assert judged(made(kind, 12, 0)) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", GOLDS)
def test_thousands_of_other_lists_earn_nothing(kind: str) -> None:
    assert judged(made(kind, 120, 1)) == []


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        ("(1, 2)", "(1, 2), (3, 4)"),
        ("(1, 2)", "(2, 1)"),
        ("(1, 2), (3, 4)", "(1, 2), (3, 4), (5, 6), (5, 6)"),
        ("(1, 2), (3, 4)", "(1, 2), (1, 2)"),
        ("\\pm 6", "6, -6, 5, 5"),
        ("\\pm 6", "6, 6"),
        ("1, 1, 2", "1, 2"),
        ("x > 3", "x > 3, x < 3"),
        ("x > 3", "x > 3 \\text{ or } x < 3"),
        ("[1, 2]", "[1, 2], [3, 4]"),
        ("(1, 2) \\cup (3, 4)", "(1, 2) \\cup (3, 4) \\cup (5, 6)"),
        ("\\emptyset", "(2, 1)"),
        ("\\emptyset", "[5, 3)"),
        ("\\emptyset", "0"),
        ("x=1, y=2", "x=1, y=2, z=3"),
        ("x=1, y=2", "x=2, y=1"),
        ("5", "5, 5, 6"),
        ("5", "\\{5, 6\\}"),
        ("5", "5, 6"),
        ("5", "5 \\text{ or } 6"),
        ("5", "5 = 6"),
        ("5", "6 = 5"),
        ("5", "\\pm 5"),
        ("5", "x = 5, x = 6"),
        ("x = 5", "x = 5, x = 6"),
    ],
)
def test_more_or_less_than_the_gold_is_wrong(gold: str, found: str) -> None:
    assert grade(f"\\boxed{{{found}}}", gold).verdict is Verdict.WRONG


# Decimal commas


def right(response: str, gold: str) -> bool:
    return grade(response, gold).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    "response",
    [
        "The answer is (2,5)", "The coordinates are (2,5)", "The answer is {2,5}", "\\boxed{\\{2,5\\}}",
        "The answer is [2,5]",
        "The points are 2,5", "The roots are 2,5", "The solutions: 2,5", "The answers are 2,5",
        "The roots are \\boxed{2,5}",
        "The coordinates of P are 2,5",
    ],
)  # fmt: skip
def test_pairs_sets_and_plurals_are_no_decimal_comma(response: str) -> None:
    assert not right(response, "2.5")


@pytest.mark.parametrize(
    "response", ["The answer is 2,5", "The length is 2,5", "\\boxed{2,5}", "x = 2,5", "The number of hours is 2,5"]
)
def test_one_number_may_have_a_decimal_comma(response: str) -> None:
    assert right(response, "2.5")
    assert not right(response, "1.5")


@pytest.mark.parametrize(
    ("response", "gold", "expected"),
    [
        ("\\boxed{0{,}5}", "0.5", True),
        ("\\boxed{1\\,000{,}99}", "1000.99", True),
        ("$-2{,}75$", "-2.75", True),
        ("\\boxed{12{,}345{,}678}", "12345678", True),
        ("The answer is 2,50 €", "2.5", True),
        ("\\boxed{2,50 €}", "2.50 euros", True),
        ("\\boxed{3{,}14}", "314", False),
        ("\\boxed{12{,}345}", "12.345", False),
        ("The answer is 2,50 €", "250", False),
        ("The answer is 2,50 €", "2.5 dollars", False),
    ],
)
def test_dressed_decimal_commas(response: str, gold: str, expected: bool) -> None:
    assert right(response, gold) is expected
