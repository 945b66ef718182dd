"""A whole text as one value: its mathematics, and the unit in which it is stated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from seethink.rewards.grader.clean import CACHED, latex
from seethink.rewards.grader.numerals import in_figures
from seethink.rewards.grader.parse import parse
from seethink.rewards.grader.syntax import Call, Node, NotMathsError, Num, symbols
from seethink.rewards.grader.units import DEGREE, Unit, split_unit

_ABOUT = re.compile(r"^(?:\*\s+|about |approximately |exactly |roughly |\\approx ?)", re.I)
_SCALE = re.compile(r"(?<=\d)\s*(dozen|hundred|thousand|million|billion|trillion)\b", re.I)
_POWERS = {"dozen": "12", "hundred": "10^2", "thousand": "10^3", "million": "10^6", "billion": "10^9",
           "trillion": "10^{12}"}  # fmt: skip
_GLUED = re.compile(r"\d[A-Za-z]+$")
_PRIME = r"(?:'|\^\s?\{?\s?\\prime\s?\}?)"
_MINUTES = re.compile(
    rf"(\d{{1,6}})\s?\^\s?\{{?\s?\\circ\s?\}}?\s?([0-5]?\d(?:\.\d{{1,9}})?)\s?{_PRIME}"
    rf"(?:\s?([0-5]?\d(?:\.\d{{1,9}})?)\s?(?:{_PRIME}{{2}}|″|\"))?"
)
"""Degrees, minutes and seconds of arc."""
_EITHER = re.compile(r"(?<=[\w})])\s*(?:或者|或)\s*(?=[-\w\\({])")


@dataclass(frozen=True, slots=True)
class Value:
    """One answer as mathematics, with the unit in which it was stated."""

    node: Node
    unit: Unit | None
    text: str


@lru_cache(maxsize=CACHED)
def read(text: str, thousands: bool = True) -> Value | None:
    """The whole text as mathematics, or None."""
    cleaned = latex(text).lstrip(" ,;:*").rstrip(" .,;:*")
    cleaned = _ABOUT.sub("", cleaned)
    if not cleaned:
        return None
    if not cleaned.isascii():
        cleaned = in_figures(_EITHER.sub(" or ", cleaned))
    if minutes := _MINUTES.fullmatch(cleaned):
        parts = [Fraction(part or 0) for part in minutes.groups()]
        return Value(Num(parts[0] + parts[1] / 60 + parts[2] / 3600), DEGREE, cleaned)
    cleaned = _SCALE.sub(lambda m: rf" \times {_POWERS[m[1].lower()]}", cleaned)
    for value_text, unit in _with_and_without_unit(cleaned):
        try:
            return Value(parse(value_text, thousands), unit, cleaned)
        except (NotMathsError, RecursionError):
            continue
    return None


def _with_and_without_unit(cleaned: str) -> Iterator[tuple[str, Unit | None]]:
    value_text, unit = split_unit(cleaned)
    if unit is None:
        yield cleaned, None
        return
    if not unit.known and unit.dimension and _GLUED.search(cleaned):
        yield cleaned, None  # `2ab`: letters glued to the number are variables unless they can only be a unit
    if not unit.dimension:
        unit = None  # `5 units`, `4 people`
    name, equals, rest = value_text.partition("=")
    if equals and re.fullmatch(r"\s*\\?[A-Za-z]\w*\s*", name):
        value_text = rest
    yield value_text, unit
    yield cleaned, None


def is_value(node: Node) -> bool:
    """Whether an answer is one number."""
    return isinstance(node, Num | Call) and not symbols(node)
