"""Whether an answer's tree says what the gold's tree says. The form of the gold decides what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from seethink.rewards.grader.compare import Symbolic, equal, points
from seethink.rewards.grader.evaluate import Evaluator, NoValueError, TooLargeError
from seethink.rewards.grader.regions import NotARegionError, same_region, spans, variable
from seethink.rewards.grader.syntax import (
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    Node,
    Num,
    Relation,
    Sets,
    Sym,
    children,
    symbols,
    unfolded,
)

MAX_ITEMS = 64
_EQUALITY = frozenset(("=", "~"))
_DIRECTION = {"<": -1, "<=": -1, ">": 1, ">=": 1}


def matches(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    """Whether `found` answers what `gold` answers."""
    if gold == found and not isinstance(gold, Num | Call):
        return True
    names = _by_name(gold), _by_name(found)
    if names[0] and names[1] and names[0].keys() == names[1].keys():
        return all(matches(value, names[1][name], symbolic) for name, value in names[0].items())
    gold, found = settle(gold), settle(found)
    if isinstance(gold, Relation):
        return (_is_equation(gold) and _equation(gold, found, symbolic)) or _inequality(gold, found, symbolic)
    if isinstance(gold, Sets) and variable(gold) is not None:
        return _inequality(gold, found, symbolic)
    values = _stated(found)
    return any(_same(gold, settle(value), symbolic) for value in values)


def settle(node: Node) -> Node:
    """Plus-minus written out, and lists of assignments as the values that they assign."""
    if _contains_sign(node) and not isinstance(node, Group):
        node = _both_signs(node)
    if not isinstance(node, Group) or node.kind != "list":
        return node
    names = _by_name(node)
    if names and len({name.split("_")[0] for name in names}) == len(names):
        return Group("tuple", tuple(names.values()))
    items: list[Node] = []
    for item in node.items:
        item = settle(item)
        item = item.operands[-1] if _is_assignment(item) else item  # type: ignore[union-attr]
        item = settle(item)
        items += item.items if isinstance(item, Group) and item.kind == "list" else (item,)
    return Group("list", tuple(items))


def _both_signs(node: Node) -> Node:
    if isinstance(node, Relation) and _is_equation(node):
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


# Equations


def _is_equation(node: Node) -> bool:
    return isinstance(node, Relation) and all(op in _EQUALITY for op in node.ops)


def _is_name(node: Node) -> bool:
    """What a value can be given to: a variable, f(x), |AB|, A:B, or a tuple of variables."""
    if isinstance(node, Sym):
        return True
    if isinstance(node, Call):
        if node.name == "*":  # AB is a length
            return all(isinstance(part, Sym) for part in unfolded("*", node))
        named = node.name in ("abs", "ratio", "prime", "binomial") or node.name.startswith("apply ")
        return named and bool(symbols(node))
    return isinstance(node, Group) and all(isinstance(item, Sym) for item in node.items)


def _is_assignment(node: Node) -> bool:
    return _is_equation(node) and _is_name(node.operands[0])  # type: ignore[union-attr]


def _by_name(node: Node) -> dict[str, Node]:
    """`x=1, y=2` as a dict; empty for anything else."""
    if not isinstance(node, Group) or node.kind != "list":
        return {}
    result: dict[str, Node] = {}
    for item in node.items:
        if not _is_equation(item) or not isinstance(item.operands[0], Sym):  # type: ignore[union-attr]
            return {}
        result[item.operands[0].name] = item.operands[-1]  # type: ignore[union-attr]
    return result if len(result) == len(node.items) else {}


def _stated(found: Node) -> Sequence[Node]:
    """The value that an answer comes to: `x = 5` says 5, `\\sqrt{4} = 2` says 2, `2x = 4` says nothing."""
    if not isinstance(found, Relation):
        return (found,)
    if found.ops == ("in",):
        return (found.operands[1],) if isinstance(found.operands[0], Sym) else ()
    if not _is_equation(found):
        return ()
    first, last = found.operands[0], found.operands[-1]
    if isinstance(last, Sym) and not symbols(first):
        return (first,)
    if not _is_name(first) and (len(symbols(first)) == 1 or (symbols(first) and last == Num(Fraction(0)))):
        return ()  # `2x = 4` and `x + y = 0` are still to be solved; `x + y = 7` may be what was asked for
    return _ends(found)


def _ends(found: Relation) -> Sequence[Node]:
    """What a chain of equalities comes to. `22/7 \\approx 3.14` states both."""
    last = found.operands[-1]
    both = found.ops[-1] == "~" and len(found.operands) > 2 and _roughly(found.operands[-2], last)
    return (last, found.operands[-2]) if both else (last,)


def _roughly(left: Node, right: Node) -> bool:
    try:
        a, b = Evaluator({})(left), Evaluator({})(right)
    except (NoValueError, TooLargeError):
        return False
    return bool(abs(a - b) <= 0.01 * abs(a))


def _equation(gold: Relation, found: Node, symbolic: Symbolic) -> bool:
    left, right = gold.operands[0], gold.operands[-1]
    if _is_name(left) and not (symbols(left) & symbols(right) and isinstance(left, Sym)):
        if not isinstance(found, Relation):
            return matches(right, found, symbolic)
        assigned = _assigned(found, left)
        if assigned:
            return any(matches(right, value, symbolic) for value in assigned)
        if len(symbols(gold)) < 2:
            return False  # the gold is solved: an equation that still has to be solved is the question again
    return _is_equation(found) and _proportional(gold, found) is not None  # type: ignore[arg-type]


def _assigned(found: Relation, name: Node) -> Sequence[Node]:
    """What `found` says that `name` is."""
    if found.ops == ("in",) and found.operands[0] == name:
        return found.operands[1:]
    if not _is_equation(found):
        return ()
    if found.operands[0] == name:
        return _ends(found)
    return found.operands[:1] if found.operands[-1] == name and len(found.operands) == 2 else ()


def _proportional(gold: Relation, found: Relation) -> Fraction | int | None:
    """The sign of the constant c with left - right of one = c times that of the other; None without one."""
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


def _difference(relation: Relation, values: dict[str, Fraction]):  # type: ignore[no-untyped-def]
    evaluate = Evaluator(values)
    return evaluate(relation.operands[0]) - evaluate(relation.operands[1])


# Inequalities and intervals


def _inequality(gold: Relation | Sets, found: Node, symbolic: Symbolic) -> bool:
    """An inequality may be answered by the interval it means; the other way round restates the question."""
    if _is_equation(gold):
        return False
    if isinstance(found, Group) and found.kind in ("list", "set"):
        return False
    about = variable(found)
    if isinstance(found, Relation) and found.ops == ("in",):
        found = found.operands[1]
    elif isinstance(found, Relation | Sets) and about != variable(gold) and about is not None:
        return False
    try:
        return same_region(gold, found, symbolic)
    except NotARegionError:
        return isinstance(gold, Relation) and isinstance(found, Relation) and _same_half_space(gold, found)


def _same_half_space(gold: Relation, found: Relation) -> bool:
    if len(gold.ops) != 1 or len(found.ops) != 1 or len(symbols(gold)) < 2:
        return False
    left, right = gold.ops[0], found.ops[0]
    sign = _proportional(gold, found)
    if sign is None or left not in _DIRECTION or right not in _DIRECTION or ("=" in left) != ("=" in right):
        return False
    return _DIRECTION[left] == sign * _DIRECTION[right]


# Everything that is no relation


def _same(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    match gold:
        case Group("list" | "set", items):
            return _same_collection(items, _members(found, len(items)), symbolic)
        case Group("tuple" | "bracket" as kind, items):
            return _same_tuple(kind, items, found, symbolic)
        case Interval() | Sets():
            return _same_set(gold, found, symbolic)
        case Const("reals" | "empty"):
            return _same_set(gold, found, symbolic)
        case Matrix(rows):
            return _same_matrix(rows, found, symbolic)
        case Call("ratio" | "base", args):
            return _same_parts(gold, args, found, symbolic)
    if isinstance(found, Group):
        single = found.kind in ("set", "bracket") and len(found.items) == 1
        return single and _same(gold, found.items[0], symbolic)
    if isinstance(found, Call) and found.name == "ratio" and len(found.args) == 2:
        found = Call("/", found.args)
    return equal(gold, found, symbolic)


def _members(found: Node, wanted: int) -> tuple[Node, ...]:
    if isinstance(found, Group):
        return () if found.kind == "bracket" and wanted == 2 else found.items
    return (found,)


def _same_collection(gold: tuple[Node, ...], found: tuple[Node, ...], symbolic: Symbolic) -> bool:
    """In any order; a value said twice counts once, unless the gold says one twice."""
    if not found or max(len(gold), len(found)) > MAX_ITEMS:
        return False
    if Const("dots") in gold:
        return len(gold) == len(found) and all(matches(g, f, symbolic) for g, f in zip(gold, found, strict=True))
    left = list(found)
    for item in gold:
        place = next((i for i, other in enumerate(left) if matches(item, other, symbolic)), None)
        if place is None:
            return False
        del left[place]
    return all(_repeats(item, found) for item in left)


def _repeats(item: Node, found: tuple[Node, ...]) -> bool:
    return found.count(item) > 1


def _same_tuple(kind: str, gold: tuple[Node, ...], found: Node, symbolic: Symbolic) -> bool:
    if not isinstance(found, Group) or len(found.items) != len(gold):
        return False
    if len(gold) == 2 and (kind == "bracket") != (found.kind == "bracket"):
        return False  # [a, b] and (a, b) are different intervals
    return all(matches(g, f, symbolic) for g, f in zip(gold, found.items, strict=True))


def _same_set(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    if isinstance(found, Group) and found.kind == "list" and len(found.items) != 1:
        return False
    if variable(found) is not None:
        return False
    try:
        return same_region(gold, found, symbolic) and bool(spans(gold) or gold == Const("empty"))
    except NotARegionError:
        return _same_pieces(gold, found, symbolic)


def _same_pieces(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    """Intervals between ends that are no numbers, such as (a, b]."""
    match gold, found:
        case Interval(), Interval():
            same_ends = (gold.closed_low, gold.closed_high) == (found.closed_low, found.closed_high)
            return same_ends and equal(gold.low, found.low, symbolic) and equal(gold.high, found.high, symbolic)
        case Sets(op, parts), Sets(other, pieces) if op == other and len(parts) == len(pieces):
            return all(_same(a, b, symbolic) for a, b in zip(parts, pieces, strict=True))
    return gold == found


def _same_matrix(gold: tuple[tuple[Node, ...], ...], found: Node, symbolic: Symbolic) -> bool:
    if isinstance(found, Matrix):
        rows = found.rows
    elif isinstance(found, Group) and all(isinstance(item, Group) for item in found.items):
        rows = tuple(item.items for item in found.items)  # type: ignore[union-attr]
    else:
        return False
    if [len(row) for row in gold] != [len(row) for row in rows]:
        return False
    pairs = ((g, f) for a, b in zip(gold, rows, strict=True) for g, f in zip(a, b, strict=True))
    return all(equal(g, f, symbolic) for g, f in pairs)


def _same_parts(gold: Call, parts: tuple[Node, ...], found: Node, symbolic: Symbolic) -> bool:
    """Ratios up to a common factor; numerals in a base digit by digit."""
    if isinstance(found, Call) and found.name == gold.name and len(found.args) == len(parts):
        if all(equal(g, f, symbolic) for g, f in zip(parts, found.args, strict=True)):
            return True
        if gold.name == "base":
            return False
        crossed = zip(parts, found.args, parts[1:], found.args[1:], strict=False)
        return all(equal(Call("*", (a, d)), Call("*", (c, b)), symbolic) for a, b, c, d in crossed)
    if gold.name == "base" or len(parts) != 2:
        return False
    return equal(Call("/", parts), found, symbolic)
