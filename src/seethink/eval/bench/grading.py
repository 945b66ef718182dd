"""How answers of benchmark items are graded: by the grader of the rewards, and what single benchmarks need besides.

Every grader takes (item, answer) pairs; an answer is what follows the thinking. A gold that no answer can match makes
the item wrong, with the reason: an item never leaves the denominator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from seethink.core.types import Grade, Verdict
from seethink.eval.bench.benchmark import Item
from seethink.rewards.grader import grade_batch, validate_gold

_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?\.?\d+(?:[eE][-+]?\d+)?")
_TIMES_TEN = re.compile(r"\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^?\s*\{?\s*([-+−]?\d+)\s*\}?")
_DIGITS_SHOWN = 400

Pair = tuple[Item, str]


def by_rule(pairs: Sequence[Pair]) -> list[Grade]:
    """The grader of the rewards."""
    problems = [gold_problem(item) for item, _ in pairs]
    good = [pair for pair, problem in zip(pairs, problems, strict=True) if problem is None]
    grades = iter(grade_batch([(text, i.gold, i.answer_type, i.choices or None, i.question) for i, text in good]))
    return [_unmatchable(item, why) if why else next(grades) for (item, _), why in zip(pairs, problems, strict=True)]


def gold_problem(item: Item) -> str | None:
    """Why no answer can match the item's gold; None for a good one."""
    try:
        validate_gold(item.gold, item.answer_type, item.choices or None)
    except ValueError as error:
        return str(error)
    return None


def _unmatchable(item: Item, why: str) -> Grade:
    return Grade(Verdict.WRONG, None, f"the gold {item.gold[:40]!r} cannot be matched: {why}"[:_DIGITS_SHOWN])


def yes_no(pairs: Sequence[Pair]) -> list[Grade]:
    """For golds `Yes` and `No`: an answer that states neither is no answer, one that states both is wrong."""
    golds = grade_batch([(text, item.gold, None, None) for item, text in pairs])
    others = grade_batch([(text, "No" if item.gold == "Yes" else "Yes", None, None) for item, text in pairs])
    return [_yes_no(gold, other) for gold, other in zip(golds, others, strict=True)]


def _yes_no(gold: Grade, other: Grade) -> Grade:
    right, reverse = (grade.verdict is Verdict.CORRECT for grade in (gold, other))
    if right and reverse:
        return Grade(Verdict.WRONG, gold.extracted, "says yes and no")
    if not right and not reverse and gold.verdict is Verdict.WRONG:
        return Grade(Verdict.NO_ANSWER, gold.extracted, "says neither yes nor no")
    return gold


def rounded(digits: Callable[[Item], int | None], *, significant: bool) -> Callable[[Sequence[Pair]], list[Grade]]:
    """As `by_rule`; where that says wrong, a number that rounds to the gold's digits is right.

    `digits` of an item: decimals, or with `significant` the significant figures that both are rounded to; None where
    the item asks for no number.
    """

    def grade(pairs: Sequence[Pair]) -> list[Grade]:
        return [_rounded(grade, pair[0], digits(pair[0]), significant) for grade, pair in _with(pairs)]

    return grade


def _with(pairs: Sequence[Pair]) -> list[tuple[Grade, Pair]]:
    return list(zip(by_rule(pairs), pairs, strict=True))


def _rounded(grade: Grade, item: Item, digits: int | None, significant: bool) -> Grade:
    if grade.verdict is not Verdict.WRONG or grade.extracted is None or digits is None or item.choices:
        return grade
    found, gold = only_number(grade.extracted), only_number(item.gold)
    if found is None or gold is None:
        return grade
    places = digits - 1 - gold.adjusted() if significant and gold else digits
    unit = Decimal(1).scaleb(-places)
    try:
        same = (found / unit).quantize(Decimal(1), ROUND_HALF_UP) == (gold / unit).quantize(Decimal(1), ROUND_HALF_UP)
    except InvalidOperation:  # more digits than any answer has
        return grade
    kind = "significant figures" if significant else "decimals"
    return Grade(Verdict.CORRECT, grade.extracted, f"{found} is {gold} at {digits} {kind}") if same else grade


def only_number(text: str) -> Decimal | None:
    """The number in a text that holds one alone; None where there are none or several.

    >>> only_number("about 3.14 \\\\times 10^8 m"), only_number("from 3 to 4"), only_number("1,250 km")
    (Decimal('3.14E+8'), None, Decimal('1250'))
    """
    found = _NUMBER.search(text)
    if found is None:
        return None
    power = _TIMES_TEN.match(text, found.end())
    rest = text[power.end() if power else found.end() :]
    # The power of a unit (m^2, s^{-1}) is no second number.
    if _NUMBER.search(re.sub(r"\^\s*\{?\s*[-+−]?\d+\s*\}?", "", rest)) or "\\frac" in text or "sqrt" in text:
        return None
    try:
        value = Decimal(found.group().replace(",", "").replace("−", "-"))
        value = value.scaleb(int(power[1].replace("−", "-"))) if power else value
    except (InvalidOperation, ValueError):
        return None
    return value if value.is_finite() and math.isfinite(float(value)) else None
