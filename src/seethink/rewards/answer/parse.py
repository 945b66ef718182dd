"""Recursive descent from LaTeX or plain mathematics to the tree of `syntax`."""

from __future__ import annotations

from fractions import Fraction

from seethink.rewards.answer.syntax import (
    FUNCTIONS,
    GREEK,
    NAMED,
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    Node,
    NotMaths,
    Num,
    Relation,
    Sets,
    Sym,
    Token,
    number,
    repeating_decimal,
    tokenise,
)

MAX_DEPTH = 64

_RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "=>": "=>", "->": "->",
    "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">",
    "ne": "!=", "neq": "!=", "in": "in", "approx": "~", "sim": "~", "simeq": "~", "equiv": "=", "to": "->",
    "Rightarrow": "=>", "implies": "=>", "rightarrow": "->",
}  # fmt: skip
_TIMES = frozenset(("cdot", "times", "*", "ast"))
_DIVIDE = frozenset(("/", "div"))
_FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac"))
_BINOMIALS = frozenset(("binom", "dbinom", "tbinom"))
_BARE = frozenset(("overline", "vec", "hat", "bar", "tilde", "mathbf", "mathrm", "underline", "widehat", "overrightarrow"))
_IGNORED = frozenset(("displaystyle", "left", "right", "angle", "triangle", "measuredangle", "big", "Big"))
_CONSTANTS = {"pi": "pi", "infty": "oo", "emptyset": "empty", "varnothing": "empty", "ldots": "dots", "dots": "dots",
              "cdots": "dots", "...": "dots"}  # fmt: skip
_CLOSES = {"(": ")", "[": "]", r"\{": r"\}", "{": "}"}
_MATRICES = frozenset(("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array"))


def parse(text: str, thousands: bool = True) -> Node:
    """The tree of one whole answer, or `NotMaths`."""
    parser = _Parser(tokenise(text, thousands))
    node = parser.answer()
    parser.expect_end()
    return node


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0
        self.bars = 0

    # Reading tokens

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

    def sees_command(self, names: frozenset[str]) -> bool:
        return self.next.kind == "cmd" and self.next.text in names

    def accept(self, *texts: str) -> bool:
        found = self.sees(*texts)
        self.place += found
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise NotMaths(f"expected {text!r}, found {self.next.text!r}")

    def expect_end(self) -> None:
        while self.accept(".", ",", ";"):
            pass
        if self.next.kind != "end":
            raise NotMaths(f"left over: {self.next.text!r}")

    # From lists down to atoms

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

    def relation(self) -> Node:
        operands, ops = [self.region()], []
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
        if token.kind in ("op", "cmd") and token.text in _RELATIONS:
            self.take()
            sign = _RELATIONS[token.text]
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
            raise NotMaths("nested deeper than an answer can be")
        left = self.product()
        while True:
            if self.accept("+"):
                left = Call("+", (left, self.product()))
            elif self.accept("-"):
                left = Call("+", (left, Call("neg", (self.product(),))))
            elif self.accept("pm", "mp"):
                left = Call("pm", (left, self.product()))
            else:
                self.depth -= 1
                return left

    def product(self) -> Node:
        left = self.signed()
        while True:
            if self.next.kind in ("op", "cmd") and self.next.text in _TIMES:
                self.take()
                left = Call("*", (left, self.signed()))
            elif self.next.kind in ("op", "cmd") and self.next.text in _DIVIDE:
                self.take()
                left = Call("/", (left, self.signed()))
            elif self.starts_factor():
                left = self.juxtaposed(left)
            else:
                return left

    def juxtaposed(self, left: Node) -> Node:
        """`2x`, and the mixed numbers `3\\frac{1}{2}` and `3 1/2`."""
        if self.next.kind == "num":
            if not (_is_natural(left) and self.mixed_tail()):
                raise NotMaths("two numbers side by side")
            top, _, bottom = number(self.take().text), self.take(), number(self.take().text)
            return _mixed(left, Call("/", (top, bottom)))
        was_fraction = self.next.kind == "cmd" and self.next.text in _FRACTIONS
        right = self.power()
        return _mixed(left, right) if was_fraction else Call("*", (left, right))

    def mixed_tail(self) -> bool:
        kinds = [token.kind for token in self.tokens[self.place : self.place + 3]]
        return kinds == ["num", "op", "num"] and self.tokens[self.place + 1].text == "/"

    def starts_factor(self) -> bool:
        token = self.next
        if token.kind in ("num", "rep"):
            return True
        if token.kind == "name":
            return token.text not in ("and", "or", "union", "cup")
        if token.kind == "cmd":
            return token.text not in _RELATIONS and token.text not in (
                "cup", "cap", "setminus", "backslash", "pm", "mp", "end", "mid", "not", "rvert", "rfloor", "rceil", "bigcup",
            )  # fmt: skip
        if token.kind != "op":
            return token.kind == "begin"
        return token.text in ("(", "[", "{", r"\{") or (token.text == "|" and self.bars == 0)

    def signed(self) -> Node:
        if self.accept("-"):
            return Call("neg", (self.nested(self.signed),))
        if self.accept("+"):
            return self.nested(self.signed)
        if self.accept("pm", "mp"):
            return Call("pm", (Num(Fraction(0)), self.nested(self.signed)))
        return self.power()

    def nested(self, rule):  # type: ignore[no-untyped-def]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMaths("nested deeper than an answer can be")
        node = rule()
        self.depth -= 1
        return node

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
            return Sym(f"{node.name}_{_label(inside)}")
        return Call("base", (node, inside))

    def script(self) -> Node:
        if self.sees("{"):
            return self.braced()
        token = self.take()
        if token.kind == "num":
            return number(token.text)
        if token.kind in ("name", "cmd", "word"):
            return Sym(token.text)
        raise NotMaths("a subscript of nothing")

    def braced(self) -> Node:
        self.expect("{")
        words = []
        while self.next.kind == "word":
            words.append(self.take().text)
        if words and self.accept("}"):
            return Sym(" ".join(words))
        node = self.nested(self.answer)
        self.expect("}")
        return node  # type: ignore[no-any-return]

    # Atoms

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
        raise NotMaths(f"unexpected {token.text!r}" if token.text else "an unfinished expression")

    def named(self, name: str) -> Node:
        if name in NAMED:
            return Const(NAMED[name])
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("e", "i"):
            return Const(name)
        if name in ("f", "g", "h", "P") and self.sees("(") and self.next.glued:
            self.take()
            inside = self.bracketed("(")
            return Call(f"apply {name}", inside.items if isinstance(inside, Group) else (inside,))
        if len(name) > 1 and name not in GREEK:
            raise NotMaths(f"the word {name[:20]!r}")
        return Sym(name)

    def command(self, name: str) -> Node:
        if name in _CONSTANTS:
            return Const(_CONSTANTS[name])
        if name in _FRACTIONS:
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
        if name in _IGNORED:
            return self.postfix()
        if name in ("lvert", "lfloor", "lceil"):
            return self.fenced(name)
        if name in ("sum", "prod", "int", "lim"):
            return self.big_operator(name)
        raise NotMaths(f"the command \\{name[:20]}")

    def argument(self) -> Node:
        """A braced argument, or one character as in `\\frac12`."""
        if self.sees("{"):
            return self.nested(self.braced)  # type: ignore[no-any-return]
        token = self.next
        if token.kind == "num" and token.text[:1].isdigit():
            self.tokens[self.place] = Token("num", token.text[1:], True)
            if not token.text[1:]:
                self.take()
            return number(token.text[0])
        return self.nested(self.atom)  # type: ignore[no-any-return]

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
            return self.nested(self.atom)  # type: ignore[no-any-return]
        argument = self.nested(self.power)
        while self.starts_factor() and not (self.next.kind in ("cmd", "name") and self.next.text in FUNCTIONS):
            if self.next.kind == "num":
                raise NotMaths("two numbers side by side")
            argument = Call("*", (argument, self.nested(self.power)))
        return argument  # type: ignore[no-any-return]

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
        bars, self.bars = self.bars, 0
        closing = _CLOSES[opening]
        if opening == r"\{" and self.accept(closing):
            return Const("empty")
        inside = self.nested(self.answer)
        self.bars = bars
        if opening in (r"\{", "{") and self.accept("mid", "|", ":"):
            inside = self.nested(self.answer)  # {x | condition} says its condition
            self.expect(closing)
            return inside  # type: ignore[no-any-return]
        if opening in ("(", "[") and self.sees(")", "]"):
            return _interval_or_group(opening, self.take().text, inside)
        self.expect(closing)
        if opening == r"\{" or (opening == "{" and isinstance(inside, Group) and inside.kind == "list"):
            return Group("set", _items(inside))
        return inside  # type: ignore[no-any-return]

    def matrix(self, kind: str) -> Node:
        if kind not in _MATRICES:
            raise NotMaths(f"the environment {kind[:20]!r}")
        rows: list[list[Node]] = [[]]
        while self.next.kind != "finish":
            if self.accept("&"):
                continue
            if self.accept("\\\\"):
                rows.append([])
            else:
                rows[-1].append(self.nested(self.sum))
        self.take()
        return Matrix(tuple(tuple(row) for row in rows if row))

    def big_operator(self, name: str) -> Node:
        low = high = None
        while self.sees("_", "^"):
            below = self.take().text == "_"
            part = self.limit() if below else self.nested(self.exponent)
            low, high = (part, high) if below else (low, part)
        body = self.nested(self.product)
        if name == "int":
            match body:
                case Call("*", (Call("*", (inside, Sym("d"))), Sym() as variable)):
                    body = Group("tuple", (inside, variable))
                case Call("*", (Sym("d"), Sym() as variable)):
                    body = Group("tuple", (Num(Fraction(1)), variable))
                case _:
                    raise NotMaths("an integral without its variable")
        return Call(name, tuple(part for part in (body, low, high) if part is not None))

    def limit(self) -> Node:
        if not self.accept("{"):
            return self.nested(self.script)  # type: ignore[no-any-return]
        left = self.nested(self.sum)
        if self.accept("=", "to", "rightarrow", "->"):
            left = Group("tuple", (left, self.nested(self.sum)))
        self.expect("}")
        return left  # type: ignore[no-any-return]


def _is_region(node: Node) -> bool:
    if isinstance(node, Relation):
        return any(op not in ("=", "~", "in") for op in node.ops)
    return isinstance(node, Interval | Sets)


def _subject(node: Node) -> str:
    """The variable that an inequality is about."""
    names = [operand.name for operand in getattr(node, "operands", ()) if isinstance(operand, Sym)]
    return names[0] if names else f"no variable {id(node)}"


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
    raise NotMaths("brackets that do not match")


def _is_natural(node: Node) -> bool:
    if isinstance(node, Call) and node.name == "neg":
        node = node.args[0]
    return isinstance(node, Num) and node.places is None


def _mixed(left: Node, right: Node) -> Node:
    """`3\\frac{1}{2}` is three and a half; any other factor before a fraction multiplies."""
    match left, right:
        case Num(whole, None), Call("/", (Num(top, None), Num(bottom, None))) if top < bottom:
            return Num(whole + top / bottom)
        case Call("neg", (Num(whole, None),)), Call("/", (Num(top, None), Num(bottom, None))) if top < bottom:
            return Num(-whole - top / bottom)
    return Call("*", (left, right))


def _label(node: Node) -> str:
    match node:
        case Num():
            return str(node.value)
        case Sym() | Const():
            return node.name
    return "".join(_label(child) for child in getattr(node, "args", getattr(node, "items", ())))
