"""Other forms of an item: its caption, the same problem as text alone, and questions that read what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from seethink.world.v2.domains import DOMAINS
from seethink.world.v2.items import Item
from seethink.world.v2.scene import COLUMNS, Thing
from seethink.world.v2.shows import middle
from seethink.world.v2.tasks.chains import card, target
from seethink.world.v2.tasks.looks import true_values
from seethink.world.v2.tasks.reckon import said

DESCRIBE = "Describe the image."


@dataclass(frozen=True, slots=True)
class Probe:
    """One question about one thing that is shown, with nothing to compute.

    Example: `Probe("What is the red die?", "4", "red", (0.4, 0.1))`
    """

    question: str
    answer: str
    name: str
    place: tuple[float, float]
    """(x, y) of its middle, as shares of the picture's width and height."""


def direct(answer: str) -> str:
    """The response that gives an answer at once."""
    return f"The answer is {answer}."


def caption(things: Sequence[Thing]) -> str:
    """All that is shown, in reading order, in the words of a thought's readings."""
    if things[0].arrow:
        return _rows(things)
    if len({thing.name for thing in things}) < len(things):
        return _pairs(things)
    return "I see " + ", ".join(f"{thing.name} {thing.value}" for thing in things) + "."


def _rows(things: Sequence[Thing]) -> str:
    """`I see row 1 red up, blue left. row 2 ...`: where each card's arrow points."""
    rows = []
    for number, (_, row) in enumerate(groupby(things, key=lambda thing: thing.cells[0] // COLUMNS), start=1):
        rows.append(f"row {number} {', '.join(map(card, row))}.")
    return "I see " + " ".join(rows)


def _pairs(things: Sequence[Thing]) -> str:
    """`I see red 4 and 4. blue 6 and 2, the dots are scratched.`"""
    sentences = []
    for digit, dots in zip(things[::2], things[1::2], strict=True):
        scratch = ", the dots are scratched" * dots.scratched or ", the digit is scratched" * digit.scratched
        sentences.append(f"{digit.name} {digit.value} and {dots.value}{scratch}.")
    return "I see " + " ".join(sentences)


def named(item: Item, names: Sequence[str]) -> tuple[str, str]:
    """A question that names some of what is shown, and the reading of each, in the order of the question.

    The reading of an arrow has the card behind it: `I see red up green.`
    """
    things = [thing for name in names for thing in item.problem.things if thing.name == name]
    question = f"What are {', '.join(names)}?"
    if not things[0].arrow:
        return question, caption(things)
    at = {thing.cells[0]: thing.name for thing in item.problem.things}
    return question, f"I see {', '.join(f'{card(thing)} {at[target(thing)]}' for thing in things)}."


def text_question(item: Item) -> str:
    """The question after a caption, to be answered without the picture; options follow as they do elsewhere."""
    return after_caption(item, item.problem.question)


def after_caption(item: Item, question: str) -> str:
    """A question about an item, told in words instead of a picture."""
    return f"{caption(item.problem.things)} {question}"


def worked(item: Item) -> str:
    """The teacher's working in plain text, without the tags of a thought."""
    return f"{item.thought.text} {item.conclusion} {direct(item.answer)}"


def leap(item: Item) -> str:
    """A response that reads what the answer needs and leaps to the answer, with no step between.

    Of looks it says the true value alone, of a chain the first card.
    """
    problem = item.problem
    if problem.family == "chains":
        return item.concluded(f"I see {problem.used[0]}.")
    return item.concluded(said(problem.used, true_values(problem), []))


def turns(item: Item) -> list[tuple[str, str]]:
    """(question, answer) turns about one picture: its caption, the question with a direct answer, and every probe."""
    asked = [(probe.question, direct(probe.answer)) for probe in probes(item)]
    return [(DESCRIBE, caption(item.problem.things)), (item.prompt, direct(item.answer)), *asked]


def probes(item: Item) -> list[Probe]:
    """One for each thing that is shown."""
    noun = DOMAINS[item.key.domain].noun
    paired = len({thing.name for thing in item.problem.things}) < len(item.problem.things)
    found = []
    for thing in item.problem.things:
        if thing.show == "arrows":
            question, answer = f"Where is the arrow of {thing.name}?", thing.arrow
        else:
            look = "digit" if thing.show == "digits" else "dots"
            own = f"the {thing.name} {look}" if paired else noun.format(thing.name)
            question, answer = f"What is {own}?", str(thing.value)
        found.append(Probe(question, answer, thing.name, middle(thing)))
    return found
