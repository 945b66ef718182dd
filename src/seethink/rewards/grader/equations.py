"""What equations and lists of them say: the values that they assign, and whether two are the same up to a factor."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeGuard

from seethink.rewards.grader.compare import points
from seethink.rewards.grader.evaluate import Evaluator, NoValueError, TooLargeError
from seethink.rewards.grader.syntax import Call, Group, Node, Num, Relation, Sym, children, symbols, unfolded

_EQUALITY = frozenset(("=", "~"))
_DIRECTION = {"<": -1, "<=": -1, ">": 1, ">=": 1}


def settle(node: Node) -> Node:
    """Plus-minus written out, and lists of assignments as the values that they assign."""
    if _contains_sign(node) and not isinstance(node, Group):
        node = _both_signs(node)
    if not isinstance(node, Group) or node.kind != "list":
        return node
    names = by_name(node)
    if names and len({name.split("_")[0] for name in names}) == len(names):
        return Group("tuple", tuple(names.values()))
    items: list[Node] = []
    for item in node.items:
        item = settle(item)
        item = item.operands[-1] if _is_assignment(item) else item
        item = settle(item)
        items += item.items if isinstance(item, Group) and item.kind == "list" else (item,)
    return Group("list", tuple(items))


def _both_signs(node: Node) -> Node:
    if is_equation(node):
        node = node.operands[-1]
    return Group("list", (_signed(node, 1), _signed(node, -1)))


def _contains_sign(node: Node) -> bool:
    return (isinstance(node, Call) and node.name == "pm") or any(_contains_sign(child) for child in children(node))


def _signed(node: Node, sign: int) -> Node:
    if not isinstance(node, Call):
        return node
    args = tuple(_signed(arg, sign) for arg in node.args)
    if node.name != "pm":
        return Call(node.name, args)
    return Call("+", (args[0], args[1] if sign > 0 else Call("neg", (args[1],))))


def is_equation(node: Node) -> TypeGuard[Relation]:
    """Whether a node is a chain of equalities, exact or approximate."""
    return isinstance(node, Relation) and all(op in _EQUALITY for op in node.ops)


def is_name(node: Node) -> bool:
    """What a value can be given to: a variable, f(x), |AB|, A:B, or a tuple of variables."""
    if isinstance(node, Sym):
        return True
    if isinstance(node, Call):
        if node.name == "*":  # AB is a length
            return all(isinstance(part, Sym) for part in unfolded("*", node))
        named = node.name in ("abs", "ratio", "prime", "binomial") or node.name.startswith("apply ")
        return named and bool(symbols(node))
    return isinstance(node, Group) and all(isinstance(item, Sym) for item in node.items)


def _is_assignment(node: Node) -> TypeGuard[Relation]:
    return is_equation(node) and is_name(node.operands[0])


def by_name(node: Node) -> dict[str, Node]:
    """`x=1, y=2` as a dict; empty for anything else."""
    if not isinstance(node, Group) or node.kind != "list":
        return {}
    result: dict[str, Node] = {}
    for item in node.items:
        if not is_equation(item) or not isinstance(item.operands[0], Sym):
            return {}
        result[item.operands[0].name] = item.operands[-1]
    return result if len(result) == len(node.items) else {}


def stated(found: Node) -> Sequence[Node]:
    """The value that an answer comes to: `x = 5` says 5, `\\sqrt{4} = 2` says 2, `2x = 4` says nothing."""
    if not isinstance(found, Relation):
        return (found,)
    if found.ops == ("in",):
        return (found.operands[1],) if isinstance(found.operands[0], Sym) else ()
    if not is_equation(found):
        return ()
    first, last = found.operands[0], found.operands[-1]
    if isinstance(last, Sym) and not symbols(first):
        return (first,)
    if not is_name(first) and (
        (len(symbols(first)) == 1 and _is_algebra(first)) or (symbols(first) and _is_zero(last))
    ):
        return ()  # `2x = 4` and `x + y = 0` are still to be solved; `x + y = 7` and `\\sin A = 1/2` may be asked for
    return () if _contradicts_itself(found) else _ends(found)


def _is_algebra(node: Node) -> bool:
    """Whether a left side is made of sums, products and powers alone, so that it may be the equation to solve."""
    return not isinstance(node, Call) or (
        node.name in ("+", "*", "/", "^", "neg", "sqrt") and all(_is_algebra(arg) for arg in node.args)
    )


def _is_zero(node: Node) -> bool:
    return isinstance(node, Num) and node.value == 0


def _contradicts_itself(chain: Relation) -> bool:
    """`5 = 6` states two answers. Rounding, a share as a percentage and a slip in a calculation are allowed."""
    pairs = zip(chain.operands, chain.operands[1:], strict=False)
    return any(
        isinstance(a, Num) and isinstance(b, Num) and not roughly(a, b) and not _is_share(a, b) for a, b in pairs
    )


def _is_share(left: Node, right: Node) -> bool:
    hundred = Num(Fraction(100))
    return any(roughly(Call("*", (a, hundred)), b) for a, b in ((left, right), (right, left)))


def _ends(found: Relation) -> Sequence[Node]:
    """What a chain of equalities comes to. `22/7 \\approx 3.14` states both."""
    last = found.operands[-1]
    exact = found.operands[-2]
    both = found.ops[-1] == "~" and (len(found.operands) > 2 or not symbols(exact)) and roughly(exact, last)
    return (last, found.operands[-2]) if both else (last,)


def roughly(left: Node, right: Node) -> bool:
    """Whether two values agree to a hundredth."""
    try:
        a, b = Evaluator({})(left), Evaluator({})(right)
    except (NoValueError, TooLargeError):
        return False
    return bool(abs(a - b) <= 0.01 * abs(a))


def assigned(found: Relation, name: Node) -> Sequence[Node]:
    """What `found` says that `name` is."""
    if found.ops == ("in",) and found.operands[0] == name:
        return found.operands[1:]
    if not is_equation(found):
        return ()
    if found.operands[0] == name:
        return _ends(found)
    return found.operands[:1] if found.operands[-1] == name and len(found.operands) == 2 else ()


def proportional(gold: Relation, found: Relation) -> int | None:
    """The sign of c where gold's left - right = c * (found's left - right) everywhere; None without such a constant."""
    if symbols(gold) != symbols(found) or len(gold.operands) != 2 or len(found.operands) != 2:
        return None
    names = tuple(sorted(symbols(gold)))
    first = None
    agreed = 0
    for values in points(names):
        try:
            ratio = _difference(gold, values) / _difference(found, values)
        except (NoValueError, TooLargeError, ZeroDivisionError):
            continue
        first = ratio if first is None else first
        if abs(ratio - first) > abs(first) * 1e-20 or first == 0:
            return None
        agreed += 1
    if first is None or agreed < 3 or getattr(first, "imag", 0) != 0:
        return None
    return 1 if first.real > 0 else -1


def _difference(relation: Relation, values: dict[str, Fraction]) -> Any:
    evaluate = Evaluator(values)
    return evaluate(relation.operands[0]) - evaluate(relation.operands[1])


def same_half_space(gold: Relation, found: Relation) -> bool:
    """Whether two inequalities in several variables hold for the same points."""
    if len(gold.ops) != 1 or len(found.ops) != 1 or len(symbols(gold)) < 2:
        return False
    left, right = gold.ops[0], found.ops[0]
    sign = proportional(gold, found)
    if sign is None or left not in _DIRECTION or right not in _DIRECTION or ("=" in left) != ("=" in right):
        return False
    return _DIRECTION[left] == sign * _DIRECTION[right]
