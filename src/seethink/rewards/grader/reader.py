"""A cursor over tokens, and the helpers that the rules of the grammar share."""

from __future__ import annotations

from collections.abc import Callable

from seethink.rewards.grader.syntax import Const, Node, NotMathsError, Num, Sym
from seethink.rewards.grader.tokens import Token, number

MAX_DEPTH = 64

RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "=>": "=>", "->": "->",
    "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">",
    "ne": "!=", "neq": "!=", "in": "in", "approx": "~", "sim": "~", "simeq": "~", "equiv": "=", "to": "->",
    "Rightarrow": "=>", "implies": "=>", "rightarrow": "->",
}  # fmt: skip
_NO_FACTOR = frozenset(
    ["cup", "cap", "setminus", "backslash", "pm", "mp", "end", "mid", "not", "rvert", "rfloor", "rceil", "bigcup"]
)  # fmt: skip


class Reader:
    """Reads tokens one after another. Subclasses add the rules, from atoms up to whole answers."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0
        self.bars = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def take(self) -> Token:
        token = self.tokens[self.place]
        self.place += token.kind != "end"
        return token

    def sees(self, *texts: str) -> bool:
        token = self.next
        return token.kind in ("op", "cmd", "word", "name") and token.text in texts

    def accept(self, *texts: str) -> bool:
        found = self.sees(*texts)
        self.place += found
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise NotMathsError(f"expected {text!r}, found {self.next.text!r}")

    def expect_end(self) -> None:
        while self.accept(".", ",", ";"):
            pass
        if self.next.kind != "end":
            raise NotMathsError(f"left over: {self.next.text!r}")

    def nested(self, rule: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMathsError("nested deeper than an answer can be")
        node = rule()
        self.depth -= 1
        return node

    def starts_factor(self) -> bool:
        token = self.next
        if token.kind in ("num", "rep"):
            return True
        if token.kind == "name":
            return token.text not in ("and", "or", "union", "cup")
        if token.kind == "cmd":
            return token.text not in RELATIONS and token.text not in _NO_FACTOR
        if token.kind != "op":
            return token.kind == "begin"
        return token.text in ("(", "[", "{", r"\{") or (token.text == "|" and self.bars == 0)

    def script(self) -> Node:
        if self.sees("{"):
            return self.braced()
        token = self.take()
        if token.kind == "num":
            return number(token.text)
        if token.kind in ("name", "cmd", "word"):
            return Sym(token.text)
        raise NotMathsError("a subscript of nothing")

    def braced(self) -> Node:
        self.expect("{")
        words = []
        while self.next.kind == "word":
            words.append(self.take().text)
        if words and self.accept("}"):
            return Sym(" ".join(words))
        node = self.nested(self.answer)
        self.expect("}")
        return node

    # Rules that `Atoms` needs and `parse` implements

    def answer(self) -> Node:
        raise NotImplementedError

    def relation(self, left: Node | None = None) -> Node:
        raise NotImplementedError

    def sum(self) -> Node:
        raise NotImplementedError

    def product(self) -> Node:
        raise NotImplementedError

    def power(self) -> Node:
        raise NotImplementedError

    def postfix(self) -> Node:
        raise NotImplementedError

    def exponent(self) -> Node:
        raise NotImplementedError


def label(node: Node) -> str:
    """How a subscript is written into a name."""
    match node:
        case Num():
            return str(node.value)
        case Sym() | Const():
            return node.name
    return "".join(label(child) for child in getattr(node, "args", getattr(node, "items", ())))
