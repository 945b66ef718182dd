"""The small tree that answers are read into.

No Python code is ever made from an answer: the tree is data, and everything that may occur in it is listed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


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
    """Row by row; the rows may differ in length."""

    rows: tuple[tuple[Node, ...], ...]


Node = Num | Sym | Const | Call | Group | Interval | Sets | Relation | Matrix


def symbols(node: Node) -> frozenset[str]:
    """The names of the variables in a tree."""
    if isinstance(node, Sym):
        return frozenset((node.name,))
    return frozenset().union(*(symbols(child) for child in children(node)))


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below one."""
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
