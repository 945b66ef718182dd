"""The tokens of one line of LaTeX or plain mathematics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from seethink.rewards.grader.syntax import NotMathsError, Num

MAX_CHARS = 4096
MAX_TOKENS = 1024
MAX_DIGITS = 256


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is num, rep, name, cmd, word (inside \\text), begin, finish, op or end; `glued`: no space before it."""

    kind: str
    text: str
    glued: bool = False


FUNCTIONS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "ln", "log",
    "exp", "sqrt", "abs", "gcd", "lcm", "max", "min", "floor", "ceil", "det",
))  # fmt: skip
NAMED = {"pi": "pi", "inf": "oo", "infinity": "oo", "infty": "oo", "oo": "oo"}
GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell", "hbar",
))  # fmt: skip
_NOT_A_PRODUCT = frozenset((
    "is", "of", "or", "an", "in", "to", "at", "we", "no", "if", "so", "it", "by", "on", "as", "be", "he", "us",
    "my", "do", "go", "me", "up", "am",
))  # fmt: skip

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
