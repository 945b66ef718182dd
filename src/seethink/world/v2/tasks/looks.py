"""Every value is shown twice, as a digit and as dots; a scratch may have changed one of the two.

Checking is cheap here: the two looks are held against each other. Where they differ the teacher writes "Wait", and
takes the look without a scratch.
"""

from __future__ import annotations

from seethink.world.v2.draws import Draws
from seethink.world.v2.names import COLORS
from seethink.world.v2.scene import NUM_CELLS, Domain, Family, Problem, Thing, Thought, Turn
from seethink.world.v2.tasks.reckon import ALL, asked, reckon, steps

SCRATCHED, CHANGED = 0.5, 0.7
"""The share of values with a scratch on one look, and of the scratches that change what it shows."""
MOST_CHANGED = 5
"""Most values of a picture whose looks differ, which bounds the trace."""
NUM_PAIRS = NUM_CELLS // 2
"""Pairs of neighbouring cells; the digit or the dots may stand left."""


def pose(domain: Domain, level: int, draws: Draws, like: Problem | None) -> Problem:
    """`level` values, read and added; one value alone is read."""
    while True:
        names = draws.some(COLORS, level)
        cells = [2 * pair for pair in draws.places(NUM_PAIRS, level)]
        values = [draws.between(domain.low, domain.high) for _ in names]
        signs = like.signs if like else ("" if level == 1 else draws.pick("+-") if level == 2 else "+" * (level - 1))
        result = reckon(values, signs)
        if result >= 0:
            break
    things: list[Thing] = []
    left = MOST_CHANGED
    for name, value, cell in zip(names, values, cells, strict=True):
        pair = _two_looks(name, value, cell, domain, draws, CHANGED if left else 0.0)
        left -= pair[0].value != pair[1].value
        things += pair
    nouns = [domain.noun.format(name) for name in names]
    question = ALL if level > 2 else asked(nouns, signs)
    task = "sum" if level > 2 else "terms"
    return Problem(tuple(things), "looks", task, question, str(result), tuple(names), signs)


def _two_looks(name: str, value: int, cell: int, domain: Domain, draws: Draws, changed: float) -> list[Thing]:
    shown, scratched = [value, value], [False, False]
    if draws.chance(SCRATCHED):
        which = draws.below(2)
        scratched[which] = True
        if draws.chance(changed):
            shown[which] = draws.pick([v for v in range(domain.low, domain.high + 1) if v != value])
    left = draws.below(2)
    cells = (cell + left, cell + 1 - left)
    return [
        Thing(name, shown[i], (cells[i],), show, scratched=scratched[i]) for i, show in enumerate(("digits", "dots"))
    ]


def true_values(problem: Problem) -> dict[str, int]:
    """The value of each name: what its look without a scratch shows."""
    return {thing.name: thing.value for thing in reversed(problem.things) if not thing.scratched}


def think(problem: Problem) -> Thought:
    """Read digit and dots of each value; "Wait" where they differ, and the look without a scratch is taken."""
    sentences: list[str] = []
    turns: list[Turn] = []
    truth = true_values(problem)
    for name in problem.used:
        digit, dots = (thing for thing in problem.things if thing.name == name)
        reading = f"{name} {digit.value} and {dots.value}"
        if digit.value != dots.value:
            worse = "digit is" if digit.scratched else "dots are"
            turns.append(Turn("the looks differ", reading))
            reading += f". Wait, the {worse} scratched, {name} {truth[name]}"
        sentences.append(reading + ".")
    equations = steps([truth[name] for name in problem.used], problem.signs)
    if equations:
        sentences.append(", ".join(equations) + ".")
    return Thought("I see " + " ".join(sentences), tuple(turns))


FAMILY = Family(("terms", "sum"), pose, think)
