"""Intervals, unions of them, and inequalities in one variable, as sorted lists of spans of the real line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seethink.rewards.grader.compare import Symbolic, equal
from seethink.rewards.grader.evaluate import Evaluator, NoValueError, TooLargeError
from seethink.rewards.grader.syntax import Call, Const, Group, Interval, Node, Num, Relation, Sets, Sym

INFINITY = Const("oo")
MINUS_INFINITY = Call("neg", (INFINITY,))
_FLIP = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "!=": "!=", "=": "="}


class NotARegionError(ValueError):
    """The node is not a set of real numbers that can be written as spans."""


@dataclass(frozen=True, slots=True)
class Span:
    """One connected piece: `Span(0.0, 1.0, Num(0), Num(1), True, False)` for [0, 1)."""

    low: float
    high: float
    low_node: Node
    high_node: Node
    closed_low: bool
    closed_high: bool


def spans(node: Node) -> list[Span]:
    """The spans of a region from left to right, joined where they touch."""
    return _joined(_spans(node))


def same_region(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    """Whether two regions hold the same numbers."""
    left, right = spans(gold), spans(found)
    return len(left) == len(right) and all(_same_span(a, b, symbolic) for a, b in zip(left, right, strict=True))


def _same_span(gold: Span, found: Span, symbolic: Symbolic) -> bool:
    if (gold.closed_low, gold.closed_high) != (found.closed_low, found.closed_high):
        return False
    return _same_end(gold.low_node, found.low_node, symbolic) and _same_end(gold.high_node, found.high_node, symbolic)


def _same_end(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    infinite = (INFINITY, MINUS_INFINITY)
    if gold in infinite or found in infinite:
        return gold == found
    return equal(gold, found, symbolic)


def _spans(node: Node) -> list[Span]:
    match node:
        case Const("reals"):
            return [_span(MINUS_INFINITY, INFINITY, False, False)]
        case Const("empty"):
            return []
        case Interval():
            return [_span(node.low, node.high, node.closed_low, node.closed_high)]
        case Group("tuple" | "bracket" as kind, (low, high)):
            closed = kind == "bracket"
            return [_span(low, high, closed, closed)]
        case Group("set", items):
            return [_span(item, item, True, True) for item in items]
        case Sets("or", parts):
            return [span for part in parts for span in _spans(part)]
        case Sets("and", parts):
            pieces = _spans(parts[0])
            for part in parts[1:]:
                pieces = _overlap(pieces, spans(part))
            return pieces
        case Sets("minus", (whole, hole)):
            return _overlap(_spans(whole), _complement(spans(hole)))
        case Relation():
            return _solved(node)
    raise NotARegionError("not a set of real numbers")


def _span(low: Node, high: Node, closed_low: bool, closed_high: bool) -> Span:
    low, high = _end(low), _end(high)
    return Span(_number(low), _number(high), low, high, closed_low, closed_high)


def _end(node: Node) -> Node:
    match node:
        case Call("pm", (Num(0), Const("oo"))):
            raise NotARegionError("an end of either sign")
    return node


def _number(node: Node) -> float:
    if node == INFINITY:
        return float("inf")
    if node == MINUS_INFINITY:
        return float("-inf")
    try:
        value: Any = Evaluator({})(node)
        return float(value)
    except (NoValueError, TooLargeError, TypeError):
        raise NotARegionError("an end that is no number") from None


def variable(node: Node) -> str | None:
    """The one variable that a solved region is about."""
    match node:
        case Relation(operands, _):
            names = {operand.name for operand in map(_unsigned, operands) if isinstance(operand, Sym)}
            return names.pop() if len(names) == 1 else None
        case Sets(_, parts):
            found = {variable(part) for part in parts}
            return found.pop() if len(found) == 1 else None
    return None


def _unsigned(node: Node) -> Node:
    return node.args[0] if isinstance(node, Call) and node.name == "neg" else node


def _solved(relation: Relation) -> list[Span]:
    """`-2 < x <= 7`, `x \\ne 3`, `x \\in [..]`; anything that still needs solving is refused."""
    if relation.ops == ("in",) and isinstance(relation.operands[0], Sym):
        return _spans(relation.operands[1])
    pieces = [_span(MINUS_INFINITY, INFINITY, False, False)]
    for left, op, right in zip(relation.operands, relation.ops, relation.operands[1:], strict=False):
        pieces = _overlap(pieces, _joined(_half_line(left, op, right)))
    return pieces


def _half_line(left: Node, op: str, right: Node) -> list[Span]:
    if op not in _FLIP:
        raise NotARegionError("not an inequality")
    if not isinstance(_unsigned(left), Sym):
        left, op, right = right, _FLIP[op], left
    if not isinstance(_unsigned(left), Sym):
        raise NotARegionError("an inequality that is not solved")
    if isinstance(left, Call):
        left, op, right = left.args[0], _FLIP[op], _negative(right)
    below, above = (MINUS_INFINITY, right), (right, INFINITY)
    match op:
        case "<" | "<=":
            return [_span(*below, False, op == "<=")]
        case ">" | ">=":
            return [_span(*above, op == ">=", False)]
        case "!=":
            return [_span(*below, False, False), _span(*above, False, False)]
    return [_span(right, right, True, True)]


def _negative(node: Node) -> Node:
    match node:
        case Call("neg", (inner,)):
            return inner
    return Call("neg", (node,))


def _joined(pieces: list[Span]) -> list[Span]:
    pieces = [p for p in pieces if p.low < p.high or (p.low == p.high and p.closed_low and p.closed_high)]
    result: list[Span] = []
    for piece in sorted(pieces, key=lambda p: (p.low, not p.closed_low)):
        last = result[-1] if result else None
        if last and (piece.low < last.high or (piece.low == last.high and (last.closed_high or piece.closed_low))):
            result[-1] = _hull(last, piece)
        else:
            result.append(piece)
    return result


def _hull(left: Span, right: Span) -> Span:
    end = max(left, right, key=lambda span: (span.high, span.closed_high))
    return Span(left.low, end.high, left.low_node, end.high_node, left.closed_low, end.closed_high)


def _overlap(left: list[Span], right: list[Span]) -> list[Span]:
    result = []
    for a in left:
        for b in right:
            low = max(a, b, key=lambda span: (span.low, not span.closed_low))
            high = min(a, b, key=lambda span: (span.high, span.closed_high))
            result.append(Span(low.low, high.high, low.low_node, high.high_node, low.closed_low, high.closed_high))
    return _joined(result)


def _complement(pieces: list[Span]) -> list[Span]:
    result: list[Span] = []
    edge: Node = MINUS_INFINITY
    closed = False
    for piece in pieces:
        if piece.low_node != MINUS_INFINITY:
            result.append(_span(edge, piece.low_node, closed, not piece.closed_low))
        edge, closed = piece.high_node, not piece.closed_high
    if edge != INFINITY:
        result.append(_span(edge, INFINITY, closed, False))
    return result
