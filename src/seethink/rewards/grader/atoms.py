"""The innermost rules of the grammar: numbers, names, commands, brackets, functions, matrices."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

from seethink.rewards.grader.reader import RELATIONS, Reader
from seethink.rewards.grader.syntax import (
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    Node,
    NotMathsError,
    Num,
    Relation,
    Sym,
    folded,
    unfolded,
)
from seethink.rewards.grader.tokens import FUNCTIONS, GREEK, NAMED, Token, number, repeating_decimal

FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac"))
_BINOMIALS = frozenset(("binom", "dbinom", "tbinom"))
_BARE = frozenset(
    ("overline", "vec", "hat", "bar", "tilde", "mathbf", "mathrm", "underline", "widehat", "overrightarrow")
)
_IGNORED = frozenset(("displaystyle", "left", "right", "angle", "triangle", "measuredangle", "big", "Big"))
_CONSTANTS = {"pi": "pi", "infty": "oo", "emptyset": "empty", "varnothing": "empty", "ldots": "dots", "dots": "dots",
              "cdots": "dots", "...": "dots"}  # fmt: skip
_ALIASES = {"tg": "tan", "ctg": "cot", "arctg": "arctan", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_SYSTEMS = frozenset(("cases", "aligned", "align", "gathered"))
_CLOSES = {"(": ")", "[": "]", r"\{": r"\}", "{": "}"}
_MATRICES = frozenset(("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array"))


class Atoms(Reader):
    """The rules for what powers, sums and lists are made of."""

    def atom(self) -> Node:
        token = self.take()
        if token.kind == "num":
            return number(token.text)
        if token.kind == "rep":
            return Num(repeating_decimal(token.text))
        if token.kind == "name":
            return self.named(token.text)
        if token.kind == "cmd":
            return self.command(token.text)
        if token.kind == "begin":
            return self.matrix(token.text)
        if token.kind == "op" and token.text in ("(", "[", r"\{", "{"):
            return self.bracketed(token.text)
        if token.kind == "op" and token.text in ("|", r"\|"):
            return self.absolute(token.text)
        if token.text == "...":
            return Const("dots")
        raise NotMathsError(f"unexpected {token.text!r}" if token.text else "an unfinished expression")

    def named(self, name: str) -> Node:
        if name in NAMED:
            return Const(NAMED[name])
        name = _ALIASES.get(name, name)
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("e", "i"):
            return Const(name)
        if name in ("f", "g", "h", "P") and self.sees("(") and self.next.glued:
            self.take()
            inside = self.bracketed("(")
            return Call(f"apply {name}", inside.items if isinstance(inside, Group) else (inside,))
        if len(name) > 1 and name not in GREEK:
            raise NotMathsError(f"the word {name[:20]!r}")
        return Sym(name)

    def command(self, name: str) -> Node:
        if name in _CONSTANTS:
            return Const(_CONSTANTS[name])
        if name in FRACTIONS:
            return Call("/", (self.argument(), self.argument()))
        if name in _BINOMIALS:
            return Call("binomial", (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name in FUNCTIONS:
            return self.function(name)
        if name in GREEK:
            return Sym(name)
        if name == "mathbb":
            return self.number_set()
        if name in _BARE:
            return self.argument()
        if name == "angle" and self.next.kind == "num" and self.next.text in "123456789":
            following = self.tokens[self.place + 1]
            if following.text in ("=", "end", "", "+", "-", ",", "and") or following.kind == "end":
                return Sym(f"angle {self.take().text}")
        if name in _IGNORED:
            return self.postfix()
        if name in ("lvert", "lfloor", "lceil"):
            return self.fenced(name)
        if name in ("sum", "prod", "int", "lim"):
            return self.big_operator(name)
        raise NotMathsError(f"the command \\{name[:20]}")

    def argument(self) -> Node:
        """A braced argument, or one character as in `\\frac12`."""
        if self.sees("{"):
            return self.nested(self.braced)
        token = self.next
        if token.kind == "num" and token.text[:1].isdigit():
            self.tokens[self.place] = Token("num", token.text[1:], True)
            if not token.text[1:]:
                self.take()
            return number(token.text[0])
        return self.nested(self.atom)

    def root(self) -> Node:
        if self.accept("["):
            degree = self.nested(self.sum)
            self.expect("]")
            return Call("^", (self.argument(), Call("/", (Num(Fraction(1)), degree))))
        if self.next.kind == "num" and self.next.glued is False:
            return Call("sqrt", (number(self.take().text),))
        return Call("sqrt", (self.argument(),))

    def function(self, name: str) -> Node:
        exponent = base = None
        if self.accept("_"):
            base = self.nested(self.script)
        if self.accept("^"):
            exponent = self.nested(self.exponent)
        inside = self.function_argument()
        arguments = inside.items if isinstance(inside, Group) else (inside,)
        if base is not None:
            arguments = (*arguments, base)
        if exponent == Call("neg", (Num(Fraction(1)),)) and name in ("sin", "cos", "tan"):
            return Call("arc" + name, arguments)
        call = Call(name, arguments)
        return Call("^", (call, exponent)) if exponent is not None else call

    def function_argument(self) -> Node:
        """`\\sin 2x` takes the product; `\\sin(x) y` only the bracket."""
        if self.sees("(", "{"):
            return self.nested(self.atom)
        argument = self.nested(self.power)
        while self.starts_factor() and not (self.next.kind in ("cmd", "name") and self.next.text in FUNCTIONS):
            if self.next.kind == "num":
                raise NotMathsError("two numbers side by side")
            argument = Call("*", (argument, self.nested(self.power)))
        return argument

    def number_set(self) -> Node:
        letter = self.braced() if self.sees("{") else self.atom()
        if isinstance(letter, Sym) and letter.name in "RZNQC":
            return Const("reals") if letter.name == "R" else Const("set " + letter.name)
        return letter

    def absolute(self, bar: str) -> Node:
        self.bars += 1
        inside = self.nested(self.sum)
        self.bars -= 1
        self.expect(bar)
        return Call("abs", (inside,))

    def fenced(self, name: str) -> Node:
        inside = self.nested(self.sum)
        self.expect({"lvert": "rvert", "lfloor": "rfloor", "lceil": "rceil"}[name])
        return Call({"lvert": "abs", "lfloor": "floor", "lceil": "ceil"}[name], (inside,))

    def bracketed(self, opening: str) -> Node:
        """A parenthesis, a tuple, a set, or an interval: the closing bracket tells."""
        bars, self.bars = self.bars, int(opening in (r"\{", "{"))  # a bar in a set may mean "such that"
        closing = _CLOSES[opening]
        if opening == r"\{" and self.accept(closing):
            return Const("empty")
        inside = self.nested(self.answer)
        self.bars = bars
        if opening in (r"\{", "{") and self.accept("mid", "|", ":"):
            inside = self.nested(self.answer)  # {x | condition} says its condition
            self.expect(closing)
            return inside
        if opening in ("(", "[") and self.sees(")", "]"):
            return _interval_or_group(opening, self.take().text, inside)
        self.expect(closing)
        if opening == r"\{" or (opening == "{" and isinstance(inside, Group) and inside.kind == "list"):
            return Group("set", _items(inside))
        return inside

    def matrix(self, kind: str) -> Node:
        if kind not in _MATRICES and kind not in _SYSTEMS:
            raise NotMathsError(f"the environment {kind[:20]!r}")
        if kind in _SYSTEMS:
            return self.system()
        rows: list[list[Node]] = [[]]
        while self.next.kind != "finish":
            if self.accept("&"):
                continue
            if self.accept("\\\\"):
                rows.append([])
            else:
                rows[-1].append(self.nested(self.relation))
                self.accept(",")
        self.take()
        cells = tuple(cell for row in rows for cell in row)
        if cells and all(isinstance(cell, Relation) for cell in cells):
            return Group("list", cells) if len(cells) > 1 else cells[0]
        return Matrix(tuple(tuple(row) for row in rows if row))

    def system(self) -> Node:
        """The lines of a system. `&` only aligns them, and a line that begins with a sign goes on with the last one."""
        end = next((i for i in range(self.place, len(self.tokens)) if self.tokens[i].kind == "finish"), self.place)
        self.tokens[self.place : end] = [t for t in self.tokens[self.place : end] if t.text != "&"]
        lines: list[Node] = []
        while self.next.kind != "finish":
            if self.accept("\\\\", ","):
                continue
            before = lines.pop() if lines and self.next.text in RELATIONS else None
            lines.append(self.nested(partial(self.relation, before)))
        self.take()
        if not lines:
            raise NotMathsError("an empty system")
        return Group("list", tuple(lines)) if len(lines) > 1 else lines[0]

    def big_operator(self, name: str) -> Node:
        low = high = None
        while self.sees("_", "^"):
            below = self.take().text == "_"
            part = self.limit() if below else self.nested(self.exponent)
            low, high = (part, high) if below else (low, part)
        body = self.nested(self.product)
        if name == "int":
            factors: list[Node] = [Num(Fraction(1)), *unfolded("*", body)]
            *inside, last, variable = factors
            if last != Sym("d") or not isinstance(variable, Sym):
                raise NotMathsError("an integral without its variable")
            body = Group("tuple", (folded("*", inside), variable))
        return Call(name, tuple(part for part in (body, low, high) if part is not None))

    def limit(self) -> Node:
        if not self.accept("{"):
            return self.nested(self.script)
        left = self.nested(self.sum)
        if self.accept("=", "to", "rightarrow", "->"):
            left = Group("tuple", (left, self.nested(self.sum)))
        self.expect("}")
        return left


def _items(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Group) and node.kind == "list" else (node,)


def _interval_or_group(opening: str, closing: str, inside: Node) -> Node:
    items = _items(inside)
    if opening + closing == "()":
        return Group("tuple", items) if len(items) > 1 else inside
    if len(items) == 2 and opening + closing != "[]":
        return Interval(items[0], items[1], opening == "[", closing == "]")
    if opening + closing == "[]":
        return Group("bracket", items) if len(items) > 1 else inside
    raise NotMathsError("brackets that do not match")
