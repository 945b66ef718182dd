"""What a completion says: its readings, equations, arrows followed, changes of mind and answer, as data.

Everything here reads untrusted text with bounded patterns and never runs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from seethink.core.thinking import after_thinking
from seethink.world.v2.names import NAMES
from seethink.world.v2.scene import Problem
from seethink.world.v2.tasks.looks import true_values

_NAME = "|".join(NAMES)
_READING = re.compile(rf"\b({_NAME}) (\d{{1,3}})(?: and (\d{{1,3}}))?\b")
_HOP = re.compile(rf"\b(up|down|left|right) ({_NAME})\b(?: (\d{{1,3}}))?")
_EQUATION = re.compile(r"\b(\d{1,4}) ([+-]) (\d{1,4}) = (\d{1,4})\b")
_COMPARISON = re.compile(r"\b(\d{1,3}) ([<>=]) (\d{1,3})(?! =)\b(?<!=)")
_SO = re.compile(rf"\bso ((?:{_NAME})(?: and (?:{_NAME})){{0,3}}|\d{{1,4}})(?: ([A-D])\b)?")
_WAIT = re.compile(r"\bWait\b")
_LIMIT = 20_000
"""Characters that are read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`red 4`, or `red 4 and 6` of two looks.

    Example: `Reading("red", 4, 6, start=6, doubted=True)`
    """

    name: str
    value: int
    second: int | None
    start: int
    """Where it begins in the thought."""
    doubted: bool
    """Whether the next sentence begins with "Wait"."""


@dataclass(frozen=True, slots=True)
class Equation:
    """`4 + 9 = 13`."""

    a: int
    sign: str
    b: int
    result: int
    start: int

    @property
    def holds(self) -> bool:
        return (self.a + self.b if self.sign == "+" else self.a - self.b) == self.result


@dataclass(frozen=True, slots=True)
class Said:
    """A completion taken apart."""

    thought: str
    readings: tuple[Reading, ...]
    equations: tuple[Equation, ...]
    comparisons: tuple[tuple[int, str, int], ...]
    hops: tuple[tuple[str, str, int | None], ...]
    """(direction, name, number or None) of each arrow that is followed."""
    waits: tuple[int, ...]
    """Where each "Wait" stands in the thought."""
    conclusion: str | None
    """The text after the last `so`."""
    letter: str | None
    """The letter that the conclusion names."""
    answer: str | None
    """What follows `The answer is` after the thought; None without such a sentence or where the thought never ends."""


def take_apart(completion: str) -> Said:
    """What a completion says."""
    text = completion[:_LIMIT]
    rest = after_thinking(text)
    opened, thought = text.partition("<think>")[1:]
    thought = thought.partition("</think>")[0] if opened else ""
    so = list(_SO.finditer(thought))
    found = re.search(r"The answer is ([^.\n]{1,60})", rest) if rest is not None else None
    return Said(
        thought,
        tuple(_reading(match, thought) for match in _READING.finditer(thought) if not _follows_arrow(match, thought)),
        tuple(Equation(int(m[1]), m[2], int(m[3]), int(m[4]), m.start()) for m in _EQUATION.finditer(thought)),
        tuple((int(m[1]), m[2], int(m[3])) for m in _COMPARISON.finditer(_EQUATION.sub("", thought))),
        tuple((m[1], m[2], int(m[3]) if m[3] else None) for m in _HOP.finditer(thought)),
        tuple(match.start() for match in _WAIT.finditer(thought)),
        so[-1][1] if so else None,
        so[-1][2] if so else None,
        found[1].strip() if found else None,
    )


def _reading(match: re.Match[str], thought: str) -> Reading:
    doubted = re.match(r"[.,]? Wait\b", thought[match.end() :]) is not None
    return Reading(match[1], int(match[2]), int(match[3]) if match[3] else None, match.start(), doubted)


def _follows_arrow(match: re.Match[str], thought: str) -> bool:
    return thought[max(0, match.start() - 6) : match.start()].rstrip().endswith(("up", "down", "left", "right"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A first answer to something, before any change of mind.

    Example: `Attempt("4 + 9 = 13", right=False, waited=True)`
    """

    said: str
    right: bool
    waited: bool
    """Whether "Wait" came after it."""


def first_attempts(problem: Problem, completion: str) -> list[Attempt]:
    """The first candidate of a search; the first look at each value of `looks`; else the first result.

    A first look is right where the value is the true one. Empty where the completion has none.
    """
    said = take_apart(completion)
    if problem.family == "looks":
        truth = true_values(problem)
        first: dict[str, Attempt] = {}
        for reading in said.readings:
            if reading.second is not None and reading.name in truth and reading.name not in first:
                right = reading.value == truth[reading.name]
                first[reading.name] = Attempt(f"{reading.name} {reading.value}", right, reading.doubted)
        return list(first.values())
    before = said.thought[: said.waits[0]] if said.waits else said.thought
    result = _result(problem, take_apart(f"<think>{before}</think>"))
    return [Attempt(*result, waited=bool(said.waits))] if result else []


def _result(problem: Problem, said: Said) -> tuple[str, bool] | None:
    """(what a stretch of thought arrives at, whether that is right), or None."""
    if problem.family == "search":
        if not said.equations:
            return None
        last = said.equations[-1]
        return f"{last.a} {last.sign} {last.b} = {last.result}", _makes_total(problem, said)
    if said.conclusion is not None:
        return said.conclusion, said.conclusion == problem.answer
    if problem.signs and said.equations:
        return str(said.equations[-1].result), str(said.equations[-1].result) == problem.answer
    if problem.family == "chains" and said.hops:
        return said.hops[-1][1], said.hops[-1][1] == problem.answer
    return None


def _makes_total(problem: Problem, said: Said) -> bool:
    """Whether the first stretch adds the asked number of shown cards to the total."""
    shown = {thing.value for thing in problem.things}
    last = said.equations[-len(problem.signs) :]
    cards = [last[0].a, *(equation.b for equation in last)]
    joined = all(one.result == two.a for one, two in pairwise(last))
    whole = len(last) == len(problem.signs) and joined and len(set(cards)) == len(cards)
    return whole and set(cards) <= shown and sum(cards) == problem.number


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often "Wait" follows a first attempt.

    Example: a teacher on `search` has `after_wrong` = 1 and `after_right` = 0.
    """

    after_wrong: float
    """P(Wait | the first attempt is wrong); NaN without one."""
    after_right: float
    num_wrong: int
    num_right: int


def calibration(attempts: list[Attempt]) -> Calibration:
    """Of first attempts of many completions."""
    wrong = [attempt.waited for attempt in attempts if not attempt.right]
    right = [attempt.waited for attempt in attempts if attempt.right]

    def share(waits: list[bool]) -> float:
        return sum(waits) / len(waits) if waits else float("nan")

    return Calibration(share(wrong), share(right), len(wrong), len(right))
