"""Whether an answer's tree says what the gold's tree says. The form of the gold decides which form is expected."""

from __future__ import annotations

from seethink.rewards.grader.compare import Symbolic, equal
from seethink.rewards.grader.equations import (
    assigned,
    by_name,
    is_equation,
    is_name,
    proportional,
    same_half_space,
    settle,
    stated,
)
from seethink.rewards.grader.regions import NotARegionError, same_region, spans, variable
from seethink.rewards.grader.syntax import Call, Const, Group, Interval, Matrix, Node, Num, Relation, Sets, Sym, symbols

MAX_ITEMS = 64


def matches(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    """Whether `found` answers what `gold` answers."""
    if gold == found and not isinstance(gold, Num | Call):
        return True
    names = by_name(gold), by_name(found)
    if names[0] and names[1] and names[0].keys() == names[1].keys():
        return all(matches(value, names[1][name], symbolic) for name, value in names[0].items())
    gold, found = settle(gold), settle(found)
    if isinstance(gold, Relation):
        return (is_equation(gold) and _equation(gold, found, symbolic)) or _inequality(gold, found, symbolic)
    if isinstance(gold, Sets) and variable(gold) is not None:
        return _inequality(gold, found, symbolic)
    values = stated(found)
    return any(_same(gold, settle(value), symbolic) for value in values)


def _equation(gold: Relation, found: Node, symbolic: Symbolic) -> bool:
    left, right = gold.operands[0], gold.operands[-1]
    if is_name(left) and not (symbols(left) & symbols(right) and isinstance(left, Sym)):
        if not isinstance(found, Relation):
            return matches(right, found, symbolic)
        values = assigned(found, left)
        if values:
            return any(matches(right, value, symbolic) for value in values)
        if len(symbols(gold)) < 2:
            return False  # the gold is solved: an equation that still has to be solved is the question again
    return is_equation(found) and proportional(gold, found) is not None


# Inequalities and intervals


def _inequality(gold: Relation | Sets, found: Node, symbolic: Symbolic) -> bool:
    """An inequality may be answered by the interval it means; the other way round restates the question."""
    if is_equation(gold):
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
        return isinstance(gold, Relation) and isinstance(found, Relation) and same_half_space(gold, found)


# Values, collections, sets and matrices


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
    """In any order and nothing else; a right value said again counts once, unless the gold says it twice."""
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
    return all(any(matches(item, other, symbolic) for item in gold) for other in left)


def _same_tuple(kind: str, gold: tuple[Node, ...], found: Node, symbolic: Symbolic) -> bool:
    if not isinstance(found, Group) or len(found.items) != len(gold):
        return False
    if len(gold) == 2 and (kind == "bracket") != (found.kind == "bracket"):
        return False  # [a, b] and (a, b) are different intervals
    return all(matches(g, f, symbolic) for g, f in zip(gold, found.items, strict=True))


def _same_set(gold: Node, found: Node, symbolic: Symbolic) -> bool:
    if isinstance(found, Group) and found.kind == "list" and len(found.items) != 1:
        return False
    if variable(found) is not None or (gold == Const("empty") and not _says_empty(found)):
        return False
    try:
        return same_region(gold, found, symbolic) and bool(spans(gold) or gold == Const("empty"))
    except NotARegionError:
        return _same_pieces(gold, found, symbolic)


def _says_empty(found: Node) -> bool:
    """Whether the empty set is written as such; an interval that ends before it begins is a mistake."""
    return found == Const("empty") or (isinstance(found, Group) and not found.items)


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
