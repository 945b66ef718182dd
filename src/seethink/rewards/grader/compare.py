"""Whether two expressions are equal: exactly where both are rational, else by their values at points.

Values agree to 25 of 40 digits or they differ; what floating values cannot settle goes to `symbolic`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from seethink.rewards.grader.evaluate import Evaluator, NoValueError, TooLargeError, exact
from seethink.rewards.grader.syntax import Call, Const, Node, Num, children, symbols

Symbolic = Callable[[Node, Node], bool]
"""Decides the equality of two expressions elsewhere, in a process that can be killed."""

ROUNDED = Fraction(1, 1000)
"""Largest relative error that rounding to the places of an inexact gold may make."""
DECIMAL = Fraction(1_01, 100_000_000)
"""Relative error allowed to decimals that stand for an exact value such as 1/3 or a root."""

_SAMPLES = 5
_SYMBOLIC_ONLY = frozenset(("sum", "prod", "int", "lim", "det", "gcd", "lcm"))


class NeedsSymbolicError(Exception):
    """Cheap arithmetic cannot tell whether the expressions are equal."""


def refuse(gold: Node, found: Node) -> bool:
    """The `Symbolic` of a pass without workers: raises NeedsSymbolicError."""
    raise NeedsSymbolicError


def equal(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    """Whether `found` has the value of the single expression `gold`."""
    gold, found = _undressed(gold, found)
    if gold == found:
        return _has_value(gold)
    if not _computable(gold) or not _computable(found):
        return False
    if _uses(gold, _SYMBOLIC_ONLY) or _uses(found, _SYMBOLIC_ONLY):
        return symbolic(gold, found)
    try:
        left, right = exact(gold), exact(found)
    except (TooLargeError, NoValueError):
        return False  # the equal trees were met above; nothing else of that size can be checked
    if left is not None and right is not None:
        return left == right or close(left, right, gold, found)
    return _equal_values(gold, found, symbolic)


def close(gold: Fraction, found: Fraction, gold_node: Node, found_node: Node) -> bool:
    """Whether two values are equal up to rounding, where one of the two was written as a decimal."""
    error = abs(gold - found)
    places = _places(gold_node)
    if places is not None:
        finer = (_places(found_node) or 0) > places or not _is_decimal(found_node)
        half_unit = Fraction(1, 2) * Fraction(10) ** -places
        if finer and error <= half_unit and error <= ROUNDED * abs(gold):
            return True
    if gold.denominator == 1 and places is None:
        return False
    decimal = places is not None or _places(found_node) is not None
    return decimal and error <= DECIMAL * abs(gold)


def _places(node: Node) -> int | None:
    match node:
        case Num():
            return node.places
        case Call("neg", (inner,)):
            return _places(inner)
        case Call("percent", (inner,)):
            places = _places(inner)
            return None if places is None else places + 2
        case Call("*", (Num(_, int() as places), Call("^", (Num(ten), power)))) if ten == 10:
            exponent = exact(power)
            return None if exponent is None else places - int(exponent)
    return None


def _is_decimal(node: Node) -> bool:
    """Whether a node was written as an integer or a decimal, with or without a sign or `%`."""
    return isinstance(node, Num) or (
        isinstance(node, Call) and node.name in ("neg", "percent") and _is_decimal(node.args[0])
    )


def _undressed(gold: Node, found: Node) -> tuple[Node, Node]:
    """Both sides without a degree sign that only one of them has: it is the unit that the question implied."""
    degrees = [isinstance(node, Call) and node.name == "deg" for node in (gold, found)]
    if any(degrees) and not _uses_constant(gold, "pi") and not _uses_constant(found, "pi"):
        gold, found = (
            node.args[0] if isinstance(node, Call) and node.name == "deg" else node for node in (gold, found)
        )
    return gold, found


def _uses_constant(node: Node, name: str) -> bool:
    return node == Const(name) or any(_uses_constant(child, name) for child in children(node))


def _uses(node: Node, names: frozenset[str]) -> bool:
    return (isinstance(node, Call) and node.name in names) or any(_uses(child, names) for child in children(node))


def _computable(node: Node) -> bool:
    """Whether a node is an expression with a value; a tuple or an ellipsis has none."""
    if isinstance(node, Const):
        return node.name in ("pi", "e", "i", "oo")
    if isinstance(node, Call):
        named = node.name.startswith("apply ") or node.name in ("ratio", "base", "pm", "prime")
        inner = node.args[:1] if node.name in _SYMBOLIC_ONLY else node.args
        return not named and (node.name in _SYMBOLIC_ONLY or all(_computable(arg) for arg in inner))
    return not children(node)


def _has_value(node: Node) -> bool:
    """False for `1/0`, which equals nothing, not even itself."""
    try:
        exact(node)
    except NoValueError:
        return False
    except TooLargeError:
        pass
    return True


@lru_cache(maxsize=256)
def points(names: tuple[str, ...]) -> tuple[dict[str, Fraction], ...]:
    """Values for the variables: mostly positive, where roots and logarithms are real, then of both signs."""
    draw = random.Random(",".join(names))
    chosen = []
    for number in range(2 * _SAMPLES):
        sign = 1 if number < _SAMPLES else -1
        values = {}
        for name in names:
            size = Fraction(draw.randrange(300_000, 2_700_000), 1_000_003)
            values[name] = size if sign > 0 or draw.random() < 0.4 else -size
        chosen.append(values)
    return tuple(chosen)


def _equal_values(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    names = tuple(sorted(symbols(gold) | symbols(found)))
    agreed = missing = 0
    for values in points(names) if names else ({},):
        try:
            verdict = _agree_at(values, gold, found)
        except TooLargeError:
            return False
        except NoValueError:
            missing += 1
            continue
        if verdict is None:
            return symbolic(gold, found)
        if not verdict:
            return False
        agreed += 1
    if agreed >= (3 if names else 1):
        return True
    # Where the gold has no value anywhere, only symbolic work can tell.
    return symbolic(gold, found) if missing and not (_undefined(found) or _undefined(gold)) else False


def _undefined(node: Node) -> bool:
    return _uses_constant(node, "oo") or not _has_value(node)


def _agree_at(values: dict[str, Fraction], gold: Node, found: Node) -> bool | None:
    """True, False, or None where 40 digits cannot tell equal from nearly equal."""
    left, right = Evaluator(values), Evaluator(values)
    a, b = left(gold), right(found)
    if any(value < 0 for value in values.values()) and (_is_complex(left.mp, a) or _is_complex(left.mp, b)):
        raise NoValueError("off the real line")  # a negative point is only there to tell |x| from x
    error, size = abs(a - b), max(abs(a), abs(b))
    noise = max(left.peak, right.peak) * left.mp.mpf(10) ** -35
    if error <= size * left.mp.mpf(10) ** -25 or (error <= noise and size <= noise):
        return True
    if error <= noise * 1e5:
        return None
    return not values and _as_decimal(error, size, gold, found)


def _is_complex(mp: Any, value: Any) -> bool:
    return bool(abs(mp.im(value)) > abs(value) * mp.mpf(10) ** -25)


def _as_decimal(error: Any, size: Any, gold: Node, found: Node) -> bool:
    """A decimal for a root, or a root for a decimal: the rounding rules of `close`."""
    places = _places(gold)
    if places is not None:
        return bool(error <= 0.5 * 10.0**-places and error <= float(ROUNDED) * size)
    return _places(found) is not None and bool(error <= float(DECIMAL) * size)
