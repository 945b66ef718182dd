"""Which cards add to a total: a depth-first search, in which checking a candidate is cheaper than finding it.

The teacher takes the first cards, adds, and goes on to the next candidate whenever a sum misses: that, and nothing
else, makes it write "Wait".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from seethink.world.v2.draws import Draws
from seethink.world.v2.names import COLORS
from seethink.world.v2.place import place
from seethink.world.v2.scene import Domain, Family, Problem, Thought, Turn
from seethink.world.v2.tasks.reckon import said, values_of

CARDS = {1: (3, 2), 2: (4, 2), 3: (5, 2), 4: (6, 2), 5: (7, 2), 6: (8, 2), 7: (6, 3), 8: (8, 3)}
"""How many cards, and how many of them make the total, by level."""
MISSES = {1: (0, 2), 2: (1, 4), 3: (2, 6), 4: (4, 8), 5: (5, 10), 6: (6, 12), 7: (5, 9), 8: (6, 9)}
"""Fewest and most sums that miss before the right one."""
MOST_RIGHT = {2: 2, 3: 4}
"""Most pairs or triples that make the total."""
WORDS = {2: "two", 3: "three"}


def attempts(values: Sequence[int], size: int, total: int) -> Iterator[tuple[list[str], bool]]:
    """(the equations of a candidate, whether it makes the total), depth-first until one does.

    A partial sum that reaches the total too early is a candidate that misses. Equations of partial sums that stand
    already are not repeated.

    >>> list(attempts([4, 9, 3], 2, 7))
    [(['4 + 9 = 13'], False), (['4 + 3 = 7'], True)]
    """

    def below(start: int, depth: int, partial: int, said: list[str]) -> Iterator[tuple[list[str], bool]]:
        for i in range(start, len(values) - (size - depth) + 1):
            result = partial + values[i]
            equation = [f"{partial} + {values[i]} = {result}"] if depth else []
            if depth + 1 == size:
                yield [*said, *equation], result == total
                said = []
            elif depth and result >= total:
                yield equation, False
            else:
                yield from below(i + 1, depth + 1, result, equation)

    for equations, hit in below(0, 0, 0, []):
        yield equations, hit
        if hit:
            return


def pose(domain: Domain, level: int, draws: Draws, like: Problem | None) -> Problem:
    """Cards with different numbers, of which few pairs or triples make the total. The teacher finds the first."""
    (cards, size), (fewest, most) = CARDS[level], MISSES[level]
    top = min(domain.high, 9)
    if cards > top - domain.low + 1:
        cards, fewest = top - domain.low + 1, min(fewest, 4)
    while True:
        values = draws.some(range(domain.low, top + 1), cards)
        total = sum(draws.some(values, size))
        if list(map(sum, combinations(values, size))).count(total) > MOST_RIGHT[size]:
            continue
        misses = sum(not hit for _, hit in attempts(values, size, total))
        if fewest <= misses <= most:
            break
    things = place(domain, draws.some(COLORS, cards), values, draws)
    of = values_of(things)
    right: list[str] = []
    wrong: list[str] = []
    for some in combinations(of, size):
        (right if sum(of[name] for name in some) == total else wrong).append(" and ".join(some))
    rivals = tuple(draws.some(wrong, min(3, len(wrong))))
    question = f"Which {WORDS[size]} {domain.plural} add to {total}?"
    return Problem(
        things,
        "search",
        WORDS[size],
        question,
        right[0],
        tuple(of),
        "+" * (size - 1),
        total,
        rivals,
        tuple(right[1:]),
    )


def think(problem: Problem) -> Thought:
    """Read all cards, then try candidates in reading order; "Wait" after each that misses.

    Last, whose the numbers are.
    """
    of = values_of(problem.things)
    values = [of[name] for name in problem.used]
    holders = [f"{of[name]} {name}" for name in problem.answer.split(" and ")]
    rows: list[str] = []
    turns: list[Turn] = []
    for equations, hit in attempts(values, len(problem.signs) + 1, problem.number):
        rows.append(("Wait, " if turns else "") + ", ".join([*equations, *(holders if hit else [])]) + ".")
        if not hit:
            turns.append(Turn("the sum misses", equations[-1]))
    return Thought(" ".join([said(problem.used, of, []), *rows]), tuple(turns))


FAMILY = Family(tuple(WORDS.values()), pose, think)
