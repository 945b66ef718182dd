"""A perfect reader with perfect computing: it knows what the picture shows, reads the question's words, and answers.

It shares no code with the families that pose the questions, so that it proves their answers. It also reads captions,
which proves the text-only forms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from seethink.world.questions import LETTERS
from seethink.world.v2.names import NAMES
from seethink.world.v2.scene import COLUMNS, Thing

_NAME = re.compile(rf"\b({'|'.join(NAMES)})\b")
_STEP = {"up": -COLUMNS, "down": COLUMNS, "left": -1, "right": 1}
_SIZES = {"two": 2, "three": 3}


@dataclass
class Sight:
    """What is seen: the true value of every name in reading order, and for arrows each card's cell and direction."""

    values: dict[str, int] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    arrows: dict[str, str] = field(default_factory=dict)
    looks: dict[tuple[str, str], int] = field(default_factory=dict)
    """(name, how it is shown) -> the number that is shown, scratched or not."""


def see(things: Sequence[Thing]) -> Sight:
    """What a picture shows."""
    sight = Sight()
    for thing in things:
        sight.looks[thing.name, thing.show] = thing.value
        if not thing.scratched or thing.name not in sight.values:
            sight.values[thing.name] = thing.value
        sight.cells[thing.name], sight.arrows[thing.name] = thing.cells[0], thing.arrow
    return sight


def see_caption(text: str) -> Sight:
    """What a caption says."""
    sight = Sight()
    if rows := re.findall(r"row (\d) ([^.]+)\.", text):
        for row, cards in rows:
            for column, card in enumerate(cards.split(", ")):
                name, *numbers, arrow = card.split()
                sight.cells[name], sight.arrows[name] = COLUMNS * (int(row) - 1) + column, arrow
                sight.values[name] = int(numbers[0]) if numbers else 0
        return sight
    for name, first, second, bad in re.findall(
        rf"({'|'.join(NAMES)}) (\d+)(?: and (\d+))?(?:, the (digit|dots) (?:is|are) scratched)?", text
    ):
        sight.values[name] = int(second if bad == "digit" else first)
    return sight


def solve(sight: Sight, question: str, choices: Sequence[str] = ()) -> str:
    """The right answer: a letter where there are choices. Raises ValueError for a question of another form."""
    right = _answers(sight, question)
    if not choices:
        return right[0]
    kinds = [frozenset(_NAME.findall(text)) or text for text in choices]
    (at,) = [i for i, kind in enumerate(kinds) if kind in [frozenset(_NAME.findall(text)) or text for text in right]]
    return LETTERS[at]


def _answers(sight: Sight, question: str) -> list[str]:
    """Every right answer in one wording."""
    values, numbers = list(sight.values.values()), [int(n) for n in re.findall(r"\d+", question)]
    names = _NAME.findall(question)
    if question.startswith("Follow"):
        return [_walk(sight, names[0], numbers[0], "sum" in question)]
    if found := re.match(r"Which (two|three) \w+ add to", question):
        sets = combinations(sight.values, _SIZES[found[1]])
        return [" and ".join(some) for some in sets if sum(sight.values[n] for n in some) == numbers[0]]
    if question.startswith("Which is larger"):
        return [max(names, key=sight.values.__getitem__)]
    if "above" in question:
        return [str(len([v for v in values if v > numbers[0]]))]
    if "times" in question:
        return [str(sum(values[i] > values[i - 1] for i in range(1, len(values))))]
    if question.startswith("Where is the arrow"):
        return [sight.arrows[names[0]]]
    if "second largest" in question:
        return [str(sorted(values)[-2])]
    if "largest value minus" in question:
        return [str(max(values) - min(values))]
    if "largest" in question or "smallest" in question:
        return [str((max if "largest" in question else min)(values))]
    if "sum of all" in question:
        return [str(sum(values))]
    if not question.startswith("What is") or not names:
        raise ValueError(f"a question of no known form: {question!r}")
    if found := re.search(r"\b(digit|dots)\?", question):
        return [str(sight.looks[names[0], "digits" if found[1] == "digit" else "dots"])]
    signs = [1, *(1 if word == "plus" else -1 for word in re.findall(r"\b(plus|minus)\b", question))]
    return [str(sum(sign * sight.values[name] for sign, name in zip(signs, names, strict=True)))]


def _walk(sight: Sight, name: str, arrows: int, adds: bool) -> str:
    at = {cell: name for name, cell in sight.cells.items()}
    total = sight.values[name]
    for _ in range(arrows):
        name = at[sight.cells[name] + _STEP[sight.arrows[name]]]
        total += sight.values[name]
    return str(total) if adds else name
