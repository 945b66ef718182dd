"""Sums and differences of values that are read: from one value to eight, with every partial result in the trace."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.world.v2.draws import Draws
from seethink.world.v2.place import count_of, named_values, place
from seethink.world.v2.scene import Domain, Family, Problem, Thing, Thought

TASKS = ("terms", "sum")
ALL = "What is the sum of all values?"


def steps(values: Sequence[int], signs: str) -> list[str]:
    """One equation for each sign.

    >>> steps([3, 5, 2], "+-")
    ['3 + 5 = 8', '8 - 2 = 6']
    """
    total, equations = values[0], []
    for sign, value in zip(signs, values[1:], strict=True):
        result = total + value if sign == "+" else total - value
        equations.append(f"{total} {sign} {value} = {result}")
        total = result
    return equations


def reckon(values: Sequence[int], signs: str) -> int:
    """The result of the last step; -1 where one on the way is negative."""
    total = values[0]
    for sign, value in zip(signs, values[1:], strict=True):
        total = total + value if sign == "+" else total - value
        if total < 0:
            return -1
    return total


def asked(nouns: Sequence[str], signs: str) -> str:
    """`["the red card", "the blue card"]` with `-` -> "What is the red card minus the blue card?"."""
    words = [f"{'plus' if sign == '+' else 'minus'} {noun}" for sign, noun in zip(signs, nouns[1:], strict=True)]
    return " ".join([f"What is {nouns[0]}", *words]) + "?"


def pose(domain: Domain, level: int, draws: Draws, like: Problem | None) -> Problem:
    """`level` values of a scene with up to two others, or the sum of all."""
    count = count_of(domain, level)
    task = like.task if like else draws.pick(TASKS) if count >= 3 else "terms"
    signs = like.signs if like else _signs(count, task, draws)
    for _ in range(1000):
        shown = count if task == "sum" else min(domain.most, count + 1 + draws.below(2))
        names, values = named_values(domain, shown, draws)
        things = place(domain, names, values, draws)
        of = {thing.name: thing.value for thing in things}
        used = [thing.name for thing in things] if task == "sum" else draws.some(list(of), count)
        result = reckon([of[name] for name in used], signs)
        if result >= 0:
            question = ALL if task == "sum" else asked([domain.noun.format(name) for name in used], signs)
            return Problem(things, "reckon", task, question, str(result), tuple(used), signs)
    raise AssertionError(f"no values of {domain.name} make {signs!r} positive")


def _signs(count: int, task: str, draws: Draws) -> str:
    """So few minuses that most values leave every partial result positive."""
    if count == 1:
        return ""
    if task == "sum":
        return "+" * (count - 1)
    minuses = draws.below(1 + count // 3) if count > 2 else draws.below(2)
    return "".join(draws.shuffled("-" * minuses + "+" * (count - 1 - minuses)))


def think(problem: Problem) -> Thought:
    """Read what is asked for, then add and subtract from left to right."""
    of = {thing.name: thing.value for thing in problem.things}
    return Thought(said(problem.used, of, [steps([of[name] for name in problem.used], problem.signs)]))


def said(names: Sequence[str], of: dict[str, int], rows: Sequence[Sequence[str]]) -> str:
    """`I see red 4, blue 9. 4 + 9 = 13.`: the readings, and a sentence for each row of statements."""
    readings = "I see " + ", ".join(f"{name} {of[name]}" for name in names) + "."
    return " ".join([readings, *(", ".join(row) + "." for row in rows if row)])


def values_of(things: Sequence[Thing]) -> dict[str, int]:
    """The number of every name."""
    return {thing.name: thing.value for thing in things}


FAMILY = Family(TASKS, pose, think)
