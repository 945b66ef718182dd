"""A calculator: exact arithmetic by a small grammar of its own. Nothing that a model writes is run as code.

    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/") signed)*
    signed  = ("-" | "+")* power
    power   = atom ("^" signed)?
    atom    = number | "(" sum ")"

Numbers and operations are the grader's, which bound every number before it is made.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, ClassVar

from seethink.core.types import Sample
from seethink.environments.calls import CallError, answer_call, response
from seethink.environments.protocol import Step
from seethink.rewards.grader.evaluate import NoValueError, TooLargeError, exact
from seethink.rewards.grader.syntax import Call, Node, NotMathsError
from seethink.rewards.grader.tokens import number

MAX_CHARS = 200
MAX_DEPTH = 30
"""Of parentheses, signs and powers within each other."""
MAX_DIGITS = 40
"""Of an answer."""
DECIMALS = 12
"""Of an answer that is no whole number."""

_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(\*\*|[-+*/^()×÷−·]))")
_SAME = {"**": "^", "×": "*", "·": "*", "÷": "/", "−": "-"}


class Calculator:
    """`{"expression": "3 * (4 + 5)"}` -> 27."""

    name: ClassVar[str] = "calculator"
    gives_images: ClassVar[bool] = False
    instructions: ClassVar[str] = (
        "You can use a calculator. To call it, write\n"
        '<tool_call>{"name": "calculator", "arguments": {"expression": "3 * (4 + 5)"}}</tool_call>\n'
        "and end your turn. It knows + - * / ^ and parentheses. A turn without a call is your final answer."
    )

    def reset(self, sample: Sample) -> None:
        """Nothing of the sample is used."""

    def step(self, text: str) -> Step:
        return answer_call(text, self.name, _use)


def _use(arguments: dict[str, Any]) -> Step:
    expression = arguments.get("expression")
    if arguments.keys() != {"expression"} or not isinstance(expression, str):
        raise CallError('the calculator takes {"expression": "a text"}')
    return Step(response(calculate(expression)))


def calculate(expression: str) -> str:
    """The value of an arithmetic expression, whole or in decimals. Raises CallError.

    >>> calculate("3 * (4 + 5)"), calculate("-2^2"), calculate("1 / 8"), calculate("2/3")
    ('27', '-4', '0.125', 'about 0.666666666667')
    """
    if len(expression) > MAX_CHARS:
        raise CallError(f"the expression is longer than {MAX_CHARS} characters")
    tree = _Parser(_tokens(expression)).whole()
    try:
        value = exact(tree)
    except NoValueError:
        raise CallError("the expression has no value; it may divide by zero") from None
    except TooLargeError:
        raise CallError("a number in it is too large") from None
    if value is None:
        raise CallError("a power must have a whole exponent")
    return _written(value)


def _written(value: Fraction) -> str:
    if abs(value) >= 10**MAX_DIGITS:
        raise CallError(f"the result has more than {MAX_DIGITS} digits")
    if value.denominator == 1:
        return str(value.numerator)
    scaled = round(value * 10**DECIMALS)
    whole, rest = divmod(abs(scaled), 10**DECIMALS)
    text = f"{'-' if scaled < 0 else ''}{whole}.{rest:0{DECIMALS}d}".rstrip("0").rstrip(".")
    return text if Fraction(scaled, 10**DECIMALS) == value else f"about {text}"


def _tokens(text: str) -> list[str]:
    """Numbers and signs. Raises CallError where anything else stands."""
    tokens, place, end = [], 0, len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        if found is None:
            raise CallError("an expression holds numbers, + - * / ^ and parentheses")
        tokens.append(_SAME.get(found[2], found[2]) if found[2] else found[1])
        place = found.end()
    return tokens


class _Parser:
    """Recursive descent; every rule reads as much as it can."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._place, self._depth = tokens, 0, 0

    def whole(self) -> Node:
        tree = self._sum()
        if self._next:
            raise CallError("the expression goes on where it should end")
        return tree

    @property
    def _next(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _accept(self, *signs: str) -> str:
        sign = self._next if self._next in signs else ""
        self._place += bool(sign)
        return sign

    def _sum(self) -> Node:
        tree = self._product()
        while sign := self._accept("+", "-"):
            term = self._product()
            tree = Call("+", (tree, term if sign == "+" else Call("neg", (term,))))
        return tree

    def _product(self) -> Node:
        tree = self._signed()
        while sign := self._accept("*", "/"):
            tree = Call(sign, (tree, self._signed()))
        return tree

    def _signed(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CallError(f"the expression is nested deeper than {MAX_DEPTH} times")
        sign = self._accept("-", "+")
        tree = self._signed() if sign else self._power()
        self._depth -= 1
        return Call("neg", (tree,)) if sign == "-" else tree

    def _power(self) -> Node:
        base = self._atom()
        return Call("^", (base, self._signed())) if self._accept("^") else base

    def _atom(self) -> Node:
        if self._accept("("):
            tree = self._sum()
            if not self._accept(")"):
                raise CallError("a parenthesis is not closed")
            return tree
        written = self._next
        if not written or not (written[0].isdigit() or written[0] == "."):
            raise CallError("a number is missing")
        self._place += 1
        try:
            return number(written)
        except NotMathsError:
            raise CallError("a number in it is too long") from None
