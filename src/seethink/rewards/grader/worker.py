"""A process that decides with sympy whether two expressions are equal. `pool` starts it and may kill it.

It reads one line of JSON per task and writes one line of JSON per answer. Expressions arrive as trees and are
built node by node from the table below: no string is ever parsed or evaluated here.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy as sp

MEMORY = 1_500_000_000
"""Bytes of address space; a task that needs more fails with MemoryError."""
LIFETIME_OF_A_TASK = 8
"""The most seconds of processor time that a task may ask for: the parent may be gone in the middle of it."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": lambda a, b: a**b,
    "neg": lambda a: -a,
    "percent": lambda a: a / 100,
    "deg": lambda a: a * sp.pi / 180,
    "!": sp.factorial,
    "abs": sp.Abs,
    "sqrt": sp.sqrt,
    "ln": sp.log,
    "log": lambda a, base=10: sp.log(a, base),
    "arcsin": sp.asin,
    "arccos": sp.acos,
    "arctan": sp.atan,
    "floor": sp.floor,
    "ceil": sp.ceiling,
    "max": sp.Max,
    "min": sp.Min,
    "gcd": sp.gcd,
    "lcm": sp.lcm,
    "binomial": sp.binomial,
    **{name: getattr(sp, name) for name in ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp"]},
}
_CONSTANTS = {"pi": sp.pi, "e": sp.E, "i": sp.I, "oo": sp.oo}


def build(tree: list[Any]) -> Any:
    """A sympy expression from `["call", "+", [...]]`, `["num", "1/2"]`, `["sym", "x"]`, `["const", "pi"]`."""
    kind, content = tree[0], tree[1]
    if kind == "num":
        value = Fraction(content)
        return sp.Rational(value.numerator, value.denominator)
    if kind == "sym":
        return sp.Symbol(content)
    if kind == "const":
        return _CONSTANTS[content]
    if kind == "tuple":
        return tuple(build(part) for part in content)
    return _big(content, tree[2]) if content in ("sum", "prod", "int", "lim") else _call(content, tree[2])


def _call(name: str, args: list[Any]) -> Any:
    return _FUNCTIONS[name](*(build(arg) for arg in args))


def _big(name: str, args: list[Any]) -> Any:
    body, *limits = (build(arg) for arg in args)
    if name == "lim":
        variable, target = limits[0]
        return sp.limit(body, variable, target)
    if name == "int":
        inside, variable = body
        return sp.Integral(inside, (variable, *limits) if len(limits) == 2 else variable).doit()
    (variable, low), high = limits
    return (sp.Sum if name == "sum" else sp.Product)(body, (variable, low, high)).doit()


def equal(gold: Any, found: Any) -> bool:
    """Whether the difference is zero: exactly where sympy can tell, else to 50 digits at several points."""
    difference = gold - found
    if difference == 0:
        return True
    if difference.is_number:
        return _vanishes(difference)
    simple = sp.simplify(difference)
    if simple == 0:
        return True
    names = sorted(difference.free_symbols, key=str)
    points = [
        dict(zip(names, (sp.Rational(7 * k + 3 * i + 2, 11 + i) for i in range(len(names))), strict=True))
        for k in range(4)
    ]
    return all(_vanishes(difference.subs(point)) for point in points)


def _vanishes(value: Any) -> bool:
    settled = value.equals(0)
    if settled is not None:
        return bool(settled)
    number = sp.N(value, 50, maxn=500)
    return bool(number.is_number and abs(number) < sp.Float(10) ** -40)


def main() -> None:
    """Answer tasks until the input ends."""
    # Ctrl-C and a scheduler's SIGTERM reach the whole group, but only the parent decides when its workers end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, even in the middle of one long operation
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, min(task["seconds"], LIFETIME_OF_A_TASK))
        try:
            answer: dict[str, Any] = {"equal": equal(build(task["gold"]), build(task["found"]))}
        except Exception as problem:  # what a model wrote may break anything in here
            answer = {"problem": f"{type(problem).__name__}: {problem}"[:200]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
