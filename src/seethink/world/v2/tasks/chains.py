"""Arrows to follow: each card points to a neighbour, and the question asks where one to eight arrows lead.

A direct answer needs the whole chain. In `add` every card has a number besides, and the numbers on the way are added.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from seethink.world.v2.draws import Draws
from seethink.world.v2.names import COLORS
from seethink.world.v2.scene import COLUMNS, Domain, Family, Problem, Thing, Thought
from seethink.world.v2.tasks.reckon import steps

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
SIDE = {1: 2, 2: 2, 3: 2}
"""Cards per side of the square, by level; 3 from level 4 on."""

Place = tuple[int, int]
"""(row, column)"""


@cache
def paths(side: int, arrows: int) -> tuple[tuple[Place, ...], ...]:
    """Every way of so many arrows through a square that comes to no card twice."""
    found: list[tuple[Place, ...]] = [((row, col),) for row in range(side) for col in range(side)]
    for _ in range(arrows):
        found = [(*path, at) for path in found for at in neighbours(side, path[-1]).values() if at not in path]
    return tuple(found)


def neighbours(side: int, at: Place) -> dict[str, Place]:
    """Where each direction leads from a card, within the square."""
    places = {name: (at[0] + down, at[1] + right) for name, (down, right) in MOVES.items()}
    return {name: place for name, place in places.items() if min(place) >= 0 and max(place) < side}


def pose(domain: Domain, level: int, draws: Draws, like: Problem | None) -> Problem:
    """A full square of cards with an arrow each; the way that is asked for comes to no card twice."""
    side = SIDE.get(level, 3)
    path = draws.pick(paths(side, level))
    on_path = dict(pairwise(path))
    top, left = draws.between(0, COLUMNS - side), draws.between(0, COLUMNS - side)
    names = draws.some(COLORS, side * side)
    adds = "add" in domain.tasks
    things = []
    for i, name in enumerate(names):
        at = divmod(i, side)
        ways = neighbours(side, at)
        arrow = next((way for way, to in ways.items() if to == on_path.get(at)), None) or draws.pick(list(ways))
        value = draws.between(domain.low, domain.high) if adds else 0
        things.append(Thing(name, value, ((top + at[0]) * COLUMNS + left + at[1],), domain.shows[0], arrow))
    used = tuple(names[row * side + col] for row, col in path)
    arrows = f"{level} arrow{'s' * (level > 1)}"
    if adds:
        of = {thing.name: thing.value for thing in things}
        total = sum(of[name] for name in used)
        question = f"Follow {arrows} from {used[0]}. What is the sum on the way?"
        signs = "+" * level
        return Problem(tuple(things), "chains", "add", question, str(total), used, signs, level)
    others = [name for name in names if name not in (used[0], used[-1])]
    question = f"Follow {arrows} from {used[0]}. Where is the end?"
    rivals = tuple(draws.some(others, min(3, len(others))))
    return Problem(tuple(things), "chains", "end", question, used[-1], used, number=level, rivals=rivals)


def target(thing: Thing) -> int:
    """The cell that a card's arrow points to."""
    down, right = MOVES[thing.arrow]
    return thing.cells[0] + COLUMNS * down + right


def card(thing: Thing) -> str:
    """`red up`, or `red 4 up` where the card has a number too."""
    return " ".join([thing.name, *([str(thing.value)] if thing.show == "numbered" else []), thing.arrow])


def think(problem: Problem) -> Thought:
    """Read each card on the way with the card behind its arrow, and the number of the last."""
    of = {thing.name: thing for thing in problem.things}
    hops = [f"{card(of[a])} {b}" for a, b in pairwise(problem.used)]
    if problem.task == "end":
        return Thought(f"I see {', '.join(hops)}.")
    values = [of[name].value for name in problem.used]
    last = f"{problem.used[-1]} {values[-1]}"
    return Thought(f"I see {', '.join([*hops, last])}. {', '.join(steps(values, problem.signs))}.")


FAMILY = Family(("end", "add"), pose, think)
