"""Recursive descent from LaTeX or plain mathematics to the tree of `syntax`: lists down to powers."""

from __future__ import annotations

from fractions import Fraction

from seethink.rewards.grader.atoms import FRACTIONS, Atoms
from seethink.rewards.grader.reader import MAX_DEPTH, RELATIONS, label
from seethink.rewards.grader.syntax import (
    Call,
    Group,
    Interval,
    Node,
    NotMathsError,
    Num,
    Relation,
    Sets,
    Sym,
    children,
    folded,
)
from seethink.rewards.grader.tokens import number, tokenise

MAX_TREE_DEPTH = 120

_TIMES = frozenset(("cdot", "times", "*", "ast"))
_DIVIDE = frozenset(("/", "div"))


def parse(text: str, thousands: bool = True) -> Node:
    """The tree of one whole answer, or `NotMathsError`."""
    parser = _Parser(tokenise(text, thousands))
    node = parser.answer()
    parser.expect_end()
    _check_depth(node)
    return node


def _check_depth(node: Node) -> None:
    """Refuse a deep tree, so that everything else may walk trees by recursion."""
    level: list[Node] = [node]
    for _ in range(MAX_TREE_DEPTH):
        level = [child for parent in level for child in children(parent)]
        if not level:
            return
    raise NotMathsError("nested deeper than an answer can be")


class _Parser(Atoms):
    def answer(self) -> Node:
        """`;` separates groups, commas and `and` separate items within a group."""
        items = [self.alternatives()]
        while self.accept(";"):
            if self.next.kind == "end":
                break
            items.append(self.alternatives())
        return items[0] if len(items) == 1 else Group("list", tuple(items))

    def alternatives(self) -> Node:
        items = [self.commas()]
        while self.accept("or"):
            items.append(self.commas())
        if len(items) == 1:
            return items[0]
        return Sets("or", tuple(items)) if all(_is_region(item) for item in items) else Group("list", tuple(items))

    def commas(self) -> Node:
        items, regions = [self.relation()], False
        while True:
            comma = self.accept(",")
            word = self.accept("and", "&")
            if not comma and not word:
                break
            if self.next.kind == "end":
                break
            regions = regions or word
            items.append(self.relation())
        if len(items) == 1:
            return items[0]
        if all(_is_region(item) for item in items) and (regions or len({_subject(item) for item in items}) == 1):
            return Sets("and", tuple(items))
        return Group("list", tuple(items))

    def relation(self, left: Node | None = None) -> Node:
        """A chain of relations, or how one that began on the line before goes on."""
        operands: list[Node] = [left if left is not None else self.region()]
        ops: list[str] = []
        if isinstance(left, Relation):
            operands, ops = list(left.operands), list(left.ops)
        while (op := self.relation_sign()) is not None:
            if op in ("=>", "->"):  # what an argument ends on is what it states
                operands, ops = [], []
                operands.append(self.region())
                continue
            ops.append(op)
            operands.append(self.region())
        return Relation(tuple(operands), tuple(ops)) if ops else operands[0]

    def relation_sign(self) -> str | None:
        token = self.next
        if token.kind == "cmd" and token.text == "not":
            self.take()
            self.expect("=")
            return "!="
        if token.kind in ("op", "cmd") and token.text in RELATIONS:
            self.take()
            sign = RELATIONS[token.text]
            if sign in ("<", ">") and self.accept("="):
                sign += "="
            return sign
        return None

    def region(self) -> Node:
        left = self.ratio()
        while True:
            if self.accept("cup", "union", "bigcup") or (
                self.next.text == "U" and isinstance(left, Interval | Group | Sets) and self.accept("U")
            ):
                left = Sets("or", (left, self.ratio()))
            elif self.accept("cap"):
                left = Sets("and", (left, self.ratio()))
            elif self.accept("setminus", "backslash"):
                left = Sets("minus", (left, self.ratio()))
            else:
                return left

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.accept(":"):
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else Call("ratio", tuple(parts))

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMathsError("nested deeper than an answer can be")
        terms = [self.product()]
        while True:
            if self.accept("+"):
                terms.append(self.product())
            elif self.accept("-"):
                terms.append(Call("neg", (self.product(),)))
            elif self.accept("pm", "mp"):
                terms = [Call("pm", (folded("+", terms), self.product()))]
            else:
                self.depth -= 1
                return folded("+", terms)

    def product(self) -> Node:
        factors = [self.signed()]
        while True:
            if self.next.kind in ("op", "cmd") and self.next.text in _TIMES:
                self.take()
                factors.append(self.signed())
            elif self.next.kind in ("op", "cmd") and self.next.text in _DIVIDE:
                self.take()
                factors = [Call("/", (folded("*", factors), self.signed()))]
            elif self.starts_factor():
                factors += self.juxtaposed(factors.pop())
            else:
                return folded("*", factors)

    def juxtaposed(self, left: Node) -> list[Node]:
        """`2x`, and the mixed numbers `3\\frac{1}{2}` and `3 1/2`."""
        if self.next.kind == "num":
            if not (_is_natural(left) and self.mixed_tail()):
                raise NotMathsError("two numbers side by side")
            top, _, bottom = number(self.take().text), self.take(), number(self.take().text)
            return _mixed(left, Call("/", (top, bottom)))
        was_fraction = self.next.kind == "cmd" and self.next.text in FRACTIONS
        right = self.power()
        return _mixed(left, right) if was_fraction else [left, right]

    def mixed_tail(self) -> bool:
        kinds = [token.kind for token in self.tokens[self.place : self.place + 3]]
        return kinds == ["num", "op", "num"] and self.tokens[self.place + 1].text == "/"

    def signed(self) -> Node:
        if self.accept("-"):
            return Call("neg", (self.nested(self.signed),))
        if self.accept("+"):
            return self.nested(self.signed)
        if self.accept("pm", "mp"):
            return Call("pm", (Num(Fraction(0)), self.nested(self.signed)))
        return self.power()

    def power(self) -> Node:
        base = self.postfix()
        if self.accept("^", "**"):
            if self.accept("circ", "degree"):
                return Call("deg", (base,))
            if self.sees("{") and self.tokens[self.place + 1].text == "circ":
                self.place += 2
                self.expect("}")
                return Call("deg", (base,))
            exponent = self.nested(self.exponent)
            return self.power_tail(Call("^", (base, exponent)))
        return base

    def power_tail(self, node: Node) -> Node:
        while self.accept("!"):
            node = Call("!", (node,))
        return node

    def exponent(self) -> Node:
        if self.sees("{"):
            return self.braced()
        return self.signed()

    def postfix(self) -> Node:
        node = self.atom()
        while True:
            if self.accept("!"):
                node = Call("!", (node,))
            elif self.accept("%", r"\%"):
                node = Call("percent", (node,))
            elif self.accept("'", "prime"):
                node = Sym(node.name + "'") if isinstance(node, Sym) else Call("prime", (node,))
            elif self.accept("degree"):
                node = Call("deg", (node,))
            elif self.accept("_"):
                node = self.subscripted(node)
            else:
                return node

    def subscripted(self, node: Node) -> Node:
        inside = self.nested(self.script)
        if isinstance(node, Sym):
            return Sym(f"{node.name}_{label(inside)}")
        return Call("base", (node, inside))


def _is_region(node: Node) -> bool:
    if isinstance(node, Relation):
        return any(op not in ("=", "~", "in") for op in node.ops)
    return isinstance(node, Interval | Sets)


def _subject(node: Node) -> str:
    """The variable that an inequality is about."""
    names = [operand.name for operand in getattr(node, "operands", ()) if isinstance(operand, Sym)]
    return names[0] if names else f"no variable {id(node)}"


def _is_natural(node: Node) -> bool:
    if isinstance(node, Call) and node.name == "neg":
        node = node.args[0]
    return isinstance(node, Num) and node.places is None


def _mixed(left: Node, right: Node) -> list[Node]:
    """`3\\frac{1}{2}` is three and a half; any other factor before a fraction multiplies."""
    match left, right:
        case Num(whole, None), Call("/", (Num(top, None), Num(bottom, None))) if top < bottom:
            return [Num(whole + top / bottom)]
        case Call("neg", (Num(whole, None),)), Call("/", (Num(top, None), Num(bottom, None))) if top < bottom:
            return [Num(-whole - top / bottom)]
    return [left, right]
