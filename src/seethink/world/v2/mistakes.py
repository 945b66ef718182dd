"""Why a completion is wrong: the first of a fixed list of causes that its own words show.

The order is that of the work: a completion that misreads and then also adds wrongly counts as misread.
"""

from __future__ import annotations

from seethink.world.v2.items import Item
from seethink.world.v2.said import Said, take_apart
from seethink.world.v2.scene import Problem
from seethink.world.v2.tasks.looks import true_values

KINDS = ("malformed", "misread", "not read", "copied wrongly", "computed wrongly", "option", "other")
"""
- malformed: no thought that ends, or no `The answer is`;
- misread: a value, an arrow or the card behind it is not the one shown;
- not read: a value that the answer needs is never read, or the chain is too short;
- copied wrongly: an equation or comparison uses a number that was neither read nor computed nor asked for;
- computed wrongly: an equation or comparison does not hold;
- option: the conclusion is right, and the letter or answer after it is not;
- other: none of these, such as a scratched look taken for the value, or a step left out.
"""


def mistake(item: Item, completion: str) -> str:
    """One of KINDS for a completion that was graded wrong."""
    problem, said = item.problem, take_apart(completion)
    if said.answer is None or not said.thought.strip():
        return "malformed"
    checks = {
        "misread": _misread(problem, said),
        "not read": _unread(problem, said),
        "copied wrongly": _miscopied(problem, said),
        "computed wrongly": _miscomputed(said),
        "option": said.conclusion is not None and _right(item, said.conclusion),
    }
    return next((kind for kind, found in checks.items() if found), "other")


def _right(item: Item, text: str) -> bool:
    """Whether a conclusion in words is right."""
    texts = (item.problem.answer, *item.problem.also)
    return set(text.split(" and ")) in [set(right.split(" and ")) for right in texts]


def _misread(problem: Problem, said: Said) -> bool:
    if problem.family == "chains":
        return _strayed(problem, said)
    if problem.family == "looks":
        shown = {(thing.name, thing.show): thing.value for thing in problem.things}
        truth = true_values(problem)
        return any(
            (reading.value, reading.second) != (shown[reading.name, "digits"], shown[reading.name, "dots"])
            if reading.second is not None
            else reading.value not in (truth[reading.name], shown[reading.name, "digits"], shown[reading.name, "dots"])
            for reading in said.readings
            if reading.name in truth
        )
    values = {thing.name: thing.value for thing in problem.things}
    return any(values.get(reading.name) != reading.value for reading in said.readings)


def _strayed(problem: Problem, said: Said) -> bool:
    """Whether a step of the chain is not what the card's arrow shows."""
    arrows = {thing.name: thing.arrow for thing in problem.things}
    numbers = {thing.name: thing.value for thing in problem.things}
    if any(numbers.get(reading.name) != reading.value for reading in said.readings):
        return True
    for (arrow, name, number), before, after in zip(said.hops, problem.used, problem.used[1:], strict=False):
        if arrow != arrows[before] or name != after:
            return True
        if problem.task == "add" and number is not None and number != numbers[name]:
            return True
    return False


def _unread(problem: Problem, said: Said) -> bool:
    if problem.family == "chains":
        return len(said.hops) < problem.number
    read = {reading.name for reading in said.readings}
    return not set(problem.used) <= read


def _miscopied(problem: Problem, said: Said) -> bool:
    known = {reading.value for reading in said.readings} | {reading.second for reading in said.readings}
    known |= {number for _, _, number in said.hops} | ({problem.number} if problem.number else set())
    for equation in said.equations:
        if not {equation.a, equation.b} <= known:
            return True
        known.add(equation.result)
    return any(not {a, b} <= known for a, _, b in said.comparisons)


def _miscomputed(said: Said) -> bool:
    holds = {"<": int.__lt__, ">": int.__gt__, "=": int.__eq__}
    return any(not equation.holds for equation in said.equations) or any(
        not holds[sign](a, b) for a, sign, b in said.comparisons
    )
