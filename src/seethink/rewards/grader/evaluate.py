"""Values of expressions, exactly where possible and else to 40 digits, always within bounds.

Every operation is bounded before it runs, so that no answer can make the grader compute for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from seethink.rewards.grader.syntax import Call, Const, Node, Num, Sym

MAX_BITS = 100_000
"""Size of an exact integer, and of the exponent of a floating number."""
MAX_FACTORIAL = 4_000
DIGITS = 40

_local = threading.local()


class TooLargeError(ValueError):
    """The value is beyond the bounds."""


class NoValueError(ValueError):
    """The expression has no value here, or needs real symbolic work."""


def exact(node: Node) -> Fraction | None:
    """The rational value, or None where the expression is not plainly rational."""
    match node:
        case Num():
            return node.value
        case Call(name, args) if name in _EXACT:
            values = [exact(arg) for arg in args]
            if None in values:
                return None
            return _EXACT[name](*values)
    return None


def _within(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooLargeError("a number beyond the bounds")
    return value


def _divide(top: Fraction, bottom: Fraction) -> Fraction:
    if bottom == 0:
        raise NoValueError("division by zero")
    return _within(top / bottom)


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        return None
    if base in (0, 1, -1):
        if base == 0 and exponent <= 0:
            raise NoValueError("zero to a power that is not positive")
        return base if base >= 0 or exponent % 2 else -base
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > MAX_BITS:
        raise TooLargeError("a power beyond the bounds")
    return base ** int(exponent)


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or value < 0:
        raise NoValueError("factorial of something else than a natural number")
    if value > MAX_FACTORIAL:
        raise TooLargeError("a factorial beyond the bounds")
    result = 1
    for factor in range(2, int(value) + 1):
        result *= factor
    return Fraction(result)


def _in_base(value: Fraction, base: Fraction) -> Fraction | None:
    """`204_5` keeps digits and base apart: it is compared as written, never as 204."""
    return None


_EXACT: dict[str, Callable[..., Fraction | None]] = {
    "+": lambda a, b: _within(a + b),
    "*": lambda a, b: _within(a * b),
    "/": _divide,
    "^": _power,
    "neg": lambda a: -a,
    "abs": abs,
    "!": _factorial,
    "percent": lambda a: a / 100,
    "floor": lambda a: Fraction(a.__floor__()),
    "ceil": lambda a: Fraction(a.__ceil__()),
    "base": _in_base,
}


def _context() -> Any:
    """mpmath keeps its precision in a context, so each thread has its own."""
    if not hasattr(_local, "context"):
        _local.context = mpmath.mp.clone()
        _local.context.dps = DIGITS
    return _local.context


class Evaluator:
    """Evaluates at one point. `peak` is the largest term of any sum, which sets the scale of the rounding error."""

    def __init__(self, values: Mapping[str, Fraction]) -> None:
        self.mp = _context()
        self.values = {name: self.mp.mpf(value.numerator) / value.denominator for name, value in values.items()}
        self.peak = self.mp.mpf(0)

    def __call__(self, node: Node) -> Any:
        rational = exact(node)
        if rational is not None:
            return self.mp.mpf(rational.numerator) / self.mp.mpf(rational.denominator)
        match node:
            case Sym():
                if node.name not in self.values:
                    raise NoValueError(f"no value for {node.name}")
                return self.values[node.name]
            case Const("pi"):
                return +self.mp.pi
            case Const("e"):
                return +self.mp.e
            case Const("i"):
                return self.mp.mpc(0, 1)
            case Call(name, args):
                return self._call(name, [self(arg) for arg in args])
        raise NoValueError("not a number")

    def _call(self, name: str, args: list[Any]) -> Any:
        for arg in args:
            self._bounded(arg)
        try:
            result = self._apply(name, args)
        except (ZeroDivisionError, OverflowError, ValueError, TypeError, mpmath.libmp.NoConvergence) as problem:
            if isinstance(problem, TooLargeError | NoValueError):
                raise
            raise NoValueError(f"{name}: {problem}") from None
        self._bounded(result)
        return result

    def _bounded(self, value: Any) -> None:
        if not self.mp.isfinite(value):
            raise NoValueError("not finite")
        if value != 0 and abs(self.mp.mag(value)) > MAX_BITS:
            raise TooLargeError("a number beyond the bounds")

    def _apply(self, name: str, args: list[Any]) -> Any:
        if name == "+":
            self.peak = max(self.peak, abs(args[0]), abs(args[1]))
            return args[0] + args[1]
        if name == "^":
            return self._power(args[0], args[1])
        if name in ("!", "exp"):
            limit = MAX_FACTORIAL if name == "!" else MAX_BITS
            if abs(args[0]) > limit:
                raise TooLargeError(f"{name} beyond the bounds")
        elif name not in ("*", "/", "neg", "abs", "sqrt", "ln", "log", "percent") and any(abs(a) > 1e12 for a in args):
            raise TooLargeError(f"{name} beyond the bounds")
        function = _NUMERIC.get(name)
        if function is None:
            raise NoValueError(f"{name} needs symbolic work")
        return function(self.mp, *args)

    def _power(self, base: Any, exponent: Any) -> Any:
        if base == 0:
            if self.mp.re(exponent) <= 0:
                raise NoValueError("zero to a power that is not positive")
            return self.mp.mpf(0)
        if abs(exponent) * (abs(self.mp.mag(base)) + 1) > MAX_BITS:
            raise TooLargeError("a power beyond the bounds")
        return self.mp.power(base, exponent)


def _logarithm(mp: Any, value: Any, base: Any = 10) -> Any:
    return mp.log(value) / mp.log(base)


def _on_reals(name: str) -> Callable[..., Any]:
    def apply(mp: Any, *args: Any) -> Any:
        if any(mp.im(arg) != 0 for arg in args):
            raise NoValueError(f"{name} of a complex number")
        return {"floor": mp.floor, "ceil": mp.ceil, "max": max, "min": min}[name](*(mp.re(arg) for arg in args))

    return apply


def _method(name: str) -> Callable[..., Any]:
    return lambda mp, value: getattr(mp, name)(value)


_NUMERIC: dict[str, Callable[..., Any]] = {
    "*": lambda mp, a, b: a * b,
    "/": lambda mp, a, b: a / b,
    "neg": lambda mp, a: -a,
    "abs": lambda mp, a: abs(a),
    "percent": lambda mp, a: a / 100,
    "deg": lambda mp, a: a * mp.pi / 180,
    "log": _logarithm,
    "!": _method("factorial"),
    "binomial": lambda mp, n, k: mp.binomial(n, k),
    "arcsin": _method("asin"),
    "arccos": _method("acos"),
    "arctan": _method("atan"),
    **{
        name: _method(name)
        for name in ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "ln", "exp", "sqrt"]
    },
    **{name: _on_reals(name) for name in ("floor", "ceil", "max", "min")},
}
