"""Questions about a chart as a whole: how many values lie above a bound, and how often they rise."""

from __future__ import annotations

from itertools import pairwise

from seethink.world.v2.draws import Draws
from seethink.world.v2.place import named_values, place
from seethink.world.v2.scene import Domain, Family, Problem, Thought
from seethink.world.v2.tasks.compare import sign
from seethink.world.v2.tasks.reckon import said, values_of

RISES = "How many times does the next value rise?"


def pose(domain: Domain, level: int, draws: Draws, like: Problem | None) -> Problem:
    """Two values at level 1, and one more at each level after it."""
    count = min(level + 1, domain.most)
    task = like.task if like else draws.pick(TASKS)
    bound = like.number if like else draws.between(3, 6)
    names, values = named_values(domain, count, draws)
    things = place(domain, names, values, draws)
    numbers = [thing.value for thing in things]
    used = tuple(thing.name for thing in things)
    if task == "above":
        question = f"How many {domain.plural} are above {bound}?"
        return Problem(things, "charts", task, question, str(sum(n > bound for n in numbers)), used, number=bound)
    rises = sum(a < b for a, b in pairwise(numbers))
    return Problem(things, "charts", task, RISES, str(rises), used)


def think(problem: Problem) -> Thought:
    """Read, then hold every value against the bound or against the one before."""
    of = values_of(problem.things)
    values = [of[name] for name in problem.used]
    bounds = [problem.number] * len(values) if problem.task == "above" else values[1:]
    lines = [f"{a} {sign(a, b)} {b}" for a, b in zip(values, bounds, strict=False)]
    return Thought(said(problem.used, of, [lines]))


TASKS = ("above", "rises")
FAMILY = Family(TASKS, pose, think)
