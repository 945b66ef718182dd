"""The small tree that answers are read into, and the tokens it is read from.

No Python code is ever made from an answer: the tree is data, and what may occur in it is listed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 4096
MAX_TOKENS = 1024
MAX_DIGITS = 256


class NotMathsError(ValueError):
    """The text is not an answer in mathematics, or is over a limit."""


@dataclass(frozen=True, slots=True)
class Num:
    """An exact rational. `places` counts the decimals it was written with; None for an integer.

    Example: `Num(Fraction(157, 50), places=2)` for `3.14`
    """

    value: Fraction
    places: int | None = None


@dataclass(frozen=True, slots=True)
class Sym:
    """A variable, with its subscript: `Sym("x_1")`."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """pi, e, i, oo (infinity), reals, empty, dots."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation: `+ * / ^ neg`, or a function by name: `Call("sin", (Sym("x"),))`."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Several values. `kind` is list (bare commas), tuple `()`, bracket `[]`, or set `{}`."""

    kind: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open interval, or a closed or open one after its kind is known from context."""

    low: Node
    high: Node
    closed_low: bool
    closed_high: bool


@dataclass(frozen=True, slots=True)
class Sets:
    """`op` is or (union), and (intersection), minus."""

    op: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain: `Relation((1, x, 3), ("<", "<="))` for `1 < x <= 3`."""

    operands: tuple[Node, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


Node = Num | Sym | Const | Call | Group | Interval | Sets | Relation | Matrix


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is num, rep, name, cmd, word (inside \\text), begin, finish, op or end; `glued`: no space before it."""

    kind: str
    text: str
    glued: bool = False


FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "exp",
        "sqrt",
        "abs",
        "gcd",
        "lcm",
        "max",
        "min",
        "floor",
        "ceil",
        "det",
    ]
)
NAMED = {"pi": "pi", "inf": "oo", "infinity": "oo", "infty": "oo", "oo": "oo"}
GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
    ]
)
_NOT_A_PRODUCT = frozenset(
    [
        "is",
        "of",
        "or",
        "an",
        "in",
        "to",
        "at",
        "we",
        "no",
        "if",
        "so",
        "it",
        "by",
        "on",
        "as",
        "be",
        "he",
        "us",
        "my",
        "do",
        "go",
        "me",
        "up",
        "am",
    ]
)

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<rep>\d*\.\d*\\overline\s*\{\d+\})"
    r"|(?P<num>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,4}(?![\w.]))?|\.\d+(?:[eE][+-]?\d{1,4}(?!\w))?|\d+\.(?!\d))"
    r"|\\(?:text|textbf|textit|textrm|textnormal|mbox)\s*\{(?P<word>[^{}]*)\}"
    r"|\\(?:mathrm|mathbf|mathit|operatorname\*?|rm|mathsf)\s*\{\s*(?P<upright>[A-Za-z]+)\s*\}"
    r"|\\begin\s*\{(?P<begin>[a-zA-Z]+)\*?\}(?:\{[lcr| ]*\})?|\\end\s*\{(?P<finish>[a-zA-Z]+)\*?\}"
    r"|(?P<op>\*\*|<=|>=|!=|=>|->|\.\.\.|\\\\|\\[{}|%#&_]|[-+*/^!%=<>()\[\]{}|,;:_&'])"
    r"|\\(?P<cmd>[A-Za-z]+)"
    r"|(?P<name>[A-Za-z]+)"
)


def tokenise(text: str, thousands: bool = True) -> list[Token]:
    """Tokens of one line of LaTeX or plain mathematics. `thousands` reads `1,234` as one number."""
    if len(text) > MAX_CHARS:
        raise NotMathsError("longer than an answer can be")
    tokens: list[Token] = []
    place, spaced = 0, True
    depth = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise NotMathsError(f"unexpected {text[place]!r}")
        kind, content = match.lastgroup or "", match.group(match.lastgroup or 0)
        end = match.end()
        if kind == "space":
            place, spaced = end, True
            continue
        if kind == "num" and "," in content and (depth > 0 or not thousands):
            content = content.split(",", 1)[0]
            end = place + len(content)
        if content in ("(", "["):
            depth += 1
        elif content in (")", "]"):
            depth -= 1
        tokens += _tokens_of(kind, content, not spaced)
        if len(tokens) > MAX_TOKENS:
            raise NotMathsError("more parts than an answer can have")
        place, spaced = end, False
    tokens.append(Token("end", ""))
    return tokens


def _tokens_of(kind: str, content: str, glued: bool) -> list[Token]:
    if kind == "name":
        return [Token("name", part, glued) for part in split_name(content)]
    if kind == "upright":
        return [Token("name", content, glued)]
    if kind == "word":
        said = content.strip().casefold()
        return [Token("word", said, glued)] if said else []
    return [Token(kind, content, glued)]


def split_name(run: str) -> list[str]:
    """`sinx` -> sin, x; `xy` -> x, y; a longer run of letters is a word, and a word is not mathematics."""
    known = ("and", "or", "cup", "union")
    if run in known or run in FUNCTIONS or run in NAMED or run in GREEK or len(run) == 1:
        return [run]
    for name in ("sqrt", "sin", "cos", "tan", "ln", "log", "pi"):
        rest = run.removeprefix(name)
        if rest != run and len(rest) == 1:
            return [name, rest]
    if run.endswith("pi") and len(run) == 3:
        return [run[0], "pi"]
    if (
        (len(run) == 2 and run.casefold() not in _NOT_A_PRODUCT)
        or (run.isupper() and len(run) <= 4)
        or run in ("xyz", "abc", "pqr", "uvw", "mnp")
    ):
        return list(run)
    raise NotMathsError(f"the word {run[:20]!r}")


def repeating_decimal(text: str) -> Fraction:
    """`0.1\\overline{6}` -> 1/6."""
    whole, rest = text.split(".", 1)
    fixed, cycle = rest.split("\\overline", 1)
    digits = re.sub(r"\D", "", cycle)
    shift = 10 ** len(fixed)
    base = Fraction(int((whole or "0") + fixed), shift)
    return base + Fraction(int(digits), shift * (10 ** len(digits) - 1))


def number(text: str) -> Num:
    """`1,234.50` -> 2469/2 with two places; `2e-3` is exact in value, inexact in kind."""
    text = text.replace(",", "")
    if len(text) > MAX_DIGITS:
        raise NotMathsError(f"a number of {len(text)} digits")
    mantissa, _, exponent = text.lower().partition("e")
    places = len(mantissa.partition(".")[2]) if "." in mantissa else None
    shift = int(exponent or 0)
    value = Fraction(mantissa.rstrip(".")) * Fraction(10) ** shift
    if places is not None:
        places = places - shift
    return Num(value, places)


def symbols(node: Node) -> frozenset[str]:
    """The names of the variables in a tree."""
    if isinstance(node, Sym):
        return frozenset((node.name,))
    return frozenset().union(*(symbols(child) for child in children(node)))


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Call():
            return node.args
        case Group():
            return node.items
        case Interval():
            return (node.low, node.high)
        case Sets():
            return node.parts
        case Relation():
            return node.operands
        case Matrix():
            return tuple(cell for row in node.rows for cell in row)
    return ()


def folded(name: str, parts: list[Node]) -> Node:
    """Many terms as a balanced tree, so that a long sum is not a deep one."""
    if len(parts) == 1:
        return parts[0]
    half = (len(parts) + 1) // 2
    return Call(name, (folded(name, parts[:half]), folded(name, parts[half:])))


def unfolded(name: str, node: Node) -> list[Node]:
    """The terms of such a tree."""
    if isinstance(node, Call) and node.name == name:
        return [part for arg in node.args for part in unfolded(name, arg)]
    return [node]
