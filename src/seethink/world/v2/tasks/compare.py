"""Comparisons: the larger of two values, the largest, smallest or second largest of several, and their range."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.world.v2.draws import Draws
from seethink.world.v2.place import COUNTED, named_values, place
from seethink.world.v2.scene import Domain, Family, Problem, Thought
from seethink.world.v2.tasks.reckon import said, steps, values_of

QUESTIONS = {
    "largest": "What is the largest value?",
    "smallest": "What is the smallest value?",
    "range": "What is the largest value minus the smallest value?",
    "second": "What is the second largest value?",
}
TASKS = ("larger", *QUESTIONS)


def tournament(values: Sequence[int], largest: bool) -> tuple[int, list[str]]:
    """The extreme value, found by holding the best so far against each next one.

    >>> tournament([4, 9, 3], largest=True)
    (9, ['4 < 9', '9 > 3'])
    """
    best, lines = values[0], []
    for value in values[1:]:
        lines.append(f"{best} {sign(best, value)} {value}")
        best = max(best, value) if largest else min(best, value)
    return best, lines


def sign(a: int, b: int) -> str:
    return "<" if a < b else ">" if a > b else "="


def pose(domain: Domain, level: int, draws: Draws, like: Problem | None) -> Problem:
    """Two values at level 1, and one more at each level after it."""
    count = min(level + 1, domain.most)
    if like:
        task = like.task
    elif domain.tasks:
        task = draws.pick([task for task in TASKS if task in domain.tasks])
    else:
        task = "larger" if level == 1 else draws.pick(("largest", "smallest", "range"))
    if task == "second":
        count = max(count, 3)
    return _larger(domain, draws) if task == "larger" else _of_all(domain, task, count, draws)


def _larger(domain: Domain, draws: Draws) -> Problem:
    while True:
        names, values = named_values(domain, min(domain.most, 2 + draws.below(3)), draws)
        things = place(domain, names, values, draws)
        of = values_of(things)
        a, b = draws.some(list(of), 2)
        if of[a] != of[b]:
            bigger, smaller = (a, b) if of[a] > of[b] else (b, a)
            text = f"Which is larger, {domain.noun.format(a)} or {domain.noun.format(b)}?"
            return Problem(things, "compare", "larger", text, bigger, (a, b), rivals=(smaller,))


def _of_all(domain: Domain, task: str, count: int, draws: Draws) -> Problem:
    names, values = named_values(domain, count, draws)
    if domain.shows[0] not in (*COUNTED, "line"):
        values = _within(domain, count, draws, task == "second")
    things = place(domain, names, values, draws)
    ordered = sorted(values)
    answer = {
        "largest": ordered[-1],
        "smallest": ordered[0],
        "range": ordered[-1] - ordered[0],
        "second": ordered[-2],
    }[task]
    return Problem(things, "compare", task, QUESTIONS[task], str(answer), tuple(thing.name for thing in things))


def _within(domain: Domain, count: int, draws: Draws, distinct: bool) -> list[int]:
    """Values between two ends that are drawn, so that the largest of many is not always the highest of all."""
    while True:
        ends = sorted((draws.between(domain.low, domain.high), draws.between(domain.low, domain.high)))
        if ends[1] - ends[0] >= (count - 1 if distinct else 2):
            break
    if distinct:
        return draws.some(range(ends[0], ends[1] + 1), count)
    return [draws.between(*ends) for _ in range(count)]


def think(problem: Problem) -> Thought:
    """Read, then compare from left to right; of a range and a second largest value twice."""
    of = values_of(problem.things)
    values = [of[name] for name in problem.used]
    if problem.task == "larger":
        return Thought(said(problem.used, of, [[f"{values[0]} {sign(*values)} {values[1]}"]]))
    best, lines = tournament(values, problem.task != "smallest")
    rows = [lines]
    if problem.task == "range":
        least, more = tournament(values, False)
        rows += [more, steps([best, least], "-")]
    elif problem.task == "second":
        rest = [value for value in values if value != best]
        rows.append(tournament(rest, True)[1])
    return Thought(said(problem.used, of, rows))


FAMILY = Family(TASKS, pose, think)
