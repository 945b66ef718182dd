"""Reads the mathematics out of a stated answer and compares it with a gold in mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from seethink.rewards.grader.claims import claimed_count, says_another
from seethink.rewards.grader.clean import latex, words
from seethink.rewards.grader.compare import Symbolic
from seethink.rewards.grader.equations import settle
from seethink.rewards.grader.extract import Statement
from seethink.rewards.grader.hedge_patterns import BESIDES, CLAUSE, DENIAL, DENIED_AFTER, DENIED_THINGS, UNCLAIMED
from seethink.rewards.grader.hedges import first_fragment, leaves_open, restatements, unsettled, without_contrast
from seethink.rewards.grader.match import matches
from seethink.rewards.grader.numerals import stated_in_chinese
from seethink.rewards.grader.rounded import both_forms
from seethink.rewards.grader.syntax import Call, Group, Node, Num, Sym
from seethink.rewards.grader.text import number_words, sentence
from seethink.rewards.grader.units import DEGREE, PERCENT, comparable, split_unit
from seethink.rewards.grader.values import Value, is_value, read

_SPAN = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S)
_NUMBER = re.compile(
    r"(?<![\w.\\^_{])-?\s?(?:\\?\$\s?)?(?:\d+\s?)?\\[dt]?frac\s?\{\s?\d{1,40}\s?\}\s?\{\s?\d{1,40}\s?\}"
    r"|(?<![\w.,\\^_{])(?:(?<!\d\s)-\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,256}|(?=\.\d))(?:\.\d{1,256})?"
    r"(?:\s?(?:\\times|\\cdot|\*|x)\s?10\s?\^\s?\{?-?\d{1,5}\}?|[eE][+-]?\d{1,4}(?!\w))?(?:\s?/\s?\d{1,40}(?![\w/]))?"
)
_UNIT_AFTER = re.compile(r"\s?(?:\\?%|per ?cent\b|pct\b|\^\s?\{?\\circ\s?\}?"
                         r"|(?:\\text|\\mathrm)?\s?\{?\s?(?:square |cubic )?"
                         r"[A-Za-zµ]+(?:\^\{?\d\}?)?(?:/[A-Za-z]+(?:\^\{?\d\}?)?)?)", re.I)  # fmt: skip
_ASIDE = re.compile(r"\s+\(|,?\s+(?:because|since|which|as|so|where|due|for|from|but|with)\b|;\s")
_NEXT_SENTENCE = re.compile(r"(?<=[\d)}%$])\.\s+(?=[A-Z])")
_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)")
_STARTS = re.compile(r"(?:^|(?<=\s))(?=\S)")
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d])")
"""Thousands set apart by spaces."""
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d{1,3}(?:[. ]\d{3})+|\d+),(\d{1,2}|\d{4,40})(?![\d,])")
_IN_BRACES = re.compile(r"\{\s*-?\d[\d.]*\s*,\s*-?\d")
_SEVERAL = re.compile(
    r"\b(?:[a-z]+s|foci|vertices)\b(?:(?!\bthere\b)[^.,;:\n]){0,60}?\b(?:are|were)\b"
    r"|\b(?:answers|solutions|roots|values|numbers|zeros|zeroes|foci|vertices|intercepts|sets?|intervals?|pairs?|points?|"
    r"coordinates?)\b[^.,;\n]{0,60}?(?:\bis\b|[:=])",
    re.I,
)
"""Before a comma: `the roots are`, `solutions:`."""
_LEAD_IN = re.compile(
    r"[A-Za-z][A-Za-z '()-]*?(?:\b(?:is|are|was|equals|be|of|about|approximately)\b|[:=])[\s:=]*(?=[\d\\$(\[.-])"
)
MAX_SUFFIXES = 24
MAX_BEFORE = 160
"""Characters before a value that may deny it."""


def is_maths(text: str) -> bool:
    """Whether to compare a gold as mathematics rather than as words."""
    value = read(text)
    if value is None:
        return False
    return not isinstance(value.node, Sym) or "\\" in text or len(text.strip()) == 1


def answered(statement: Statement, gold: Value) -> Iterator[Value]:
    """The one answer that a statement makes; two readings only where a comma may part thousands, decimals or a list."""
    value = _stated(statement, gold)
    if value is None:
        return
    yield value
    if isinstance(gold.node, Group) and _THOUSANDS.search(value.text):
        other = read(value.text, False)
        if other is not None:
            yield other
    elif isinstance(gold.node, Num) and not isinstance(value.node, Num | Group) and statement.kind != "box":
        both = both_forms(without_contrast(statement.text))
        if both is not None and both[0] == value:
            yield both[1]
    elif isinstance(gold.node, Num) and gold.node.places is not None and _parts_decimals(value.node, statement.text):
        other = read(_DECIMAL_COMMA.sub(lambda m: re.sub(r"[. ]", "", m[1]) + "." + m[2], value.text))
        if other is not None:
            yield other


def _parts_decimals(node: Node, text: str) -> bool:
    """Whether the comma of a list may part decimals: not within brackets, and not where several things are named."""
    if not isinstance(node, Group) or node.kind != "list" or _IN_BRACES.search(text):
        return False
    return not _SEVERAL.search(text)


def lists_several(before: str, text: str, gold: str) -> bool:
    """Whether an answer of one comma that was read as 2.5 stands after words such as `the roots are`."""
    if "," not in text or not _SEVERAL.search(before):
        return False
    target, found = read(gold), read(text)
    single = target is not None and isinstance(target.node, Num)
    return single and found is not None and isinstance(found.node, Group)


def _stated(statement: Statement, gold: Value) -> Value | None:
    if statement.boxes and is_several(gold.node):
        return _boxes_as_list(statement.boxes)
    whole = read(statement.text)
    if whole is not None:
        return _with_unit_after(whole, statement.after) if statement.kind == "box" else whole
    if statement.kind != "free" and _SPACED.search(statement.text):
        grouped = read(_SPACED.sub(lambda m: m.group().replace(" ", ""), latex(statement.text)))
        if grouped is not None:
            return grouped
    if statement.kind == "box":
        return _in_words(statement.text) or _exact_and_rounded(statement.text) or _in_box(statement.text)
    line = without_contrast(statement.text)
    if line != statement.text and (whole := read(line)) is not None:
        return whole
    return _exact_and_rounded(line) or _head(line, statement.kind) or _in_prose(line, gold) or _counted(statement, gold)


def is_several(node: Node) -> bool:
    """Whether a gold is several values, which adjacent boxes may state together."""
    return isinstance(node, Group) or isinstance(settle(node), Group)


def _head(line: str, kind: str) -> Value | None:
    """`12, because ...` and `12 (see above)` state 12."""
    if kind == "free":
        return None
    head, *rest = _NEXT_SENTENCE.split(line, maxsplit=1)
    if not rest:
        head, *rest = _ASIDE.split(line, maxsplit=1)
        if not rest or re.search(r"\b(?:or|and)\b", rest[0][:20]):
            return None
    value = read(head)
    return None if value is None or isinstance(value.node, Sym) or _objects(value, rest[0]) else value


def _objects(value: Value, after: str) -> bool:
    """Whether the words after a value take it back, or state another one."""
    if DENIED_AFTER.search(after) or leaves_open(after):
        return True
    others = [read(said) for said in restatements(after)]
    return any(other is not None and is_value(other.node) and other.node != value.node for other in others)


def _in_box(text: str) -> Value | None:
    """`\\text{The value is }7` states 7."""
    said = words(latex(text))
    lead = _LEAD_IN.match(said)
    if lead is None or unsettled(said[: lead.end()].rstrip(" :=")) or DENIAL.search(said):
        return None
    return read(said[lead.end() :])


def _exact_and_rounded(text: str) -> Value | None:
    """The exact value of `\\frac{5}{3} (about 1.67)`, where the decimals are its own."""
    both = both_forms(text)
    return both[0] if both is not None else None


def _boxes_as_list(boxes: tuple[str, ...]) -> Value | None:
    values = [read(box) for box in boxes]
    if None in values:
        return None
    nodes = tuple(value.node for value in values if value is not None)
    return Value(Group("list", nodes), None, ", ".join(boxes))


def _with_unit_after(value: Value, after: str) -> Value:
    """`\\boxed{21} grams`: the unit stands outside the box."""
    if value.unit is not None or not isinstance(value.node, Num) or not after.strip():
        return value
    unit_text = _UNIT_AFTER.match(words(latex(after.lstrip("$ "))).lstrip())
    if unit_text is None:
        return value
    _, unit = split_unit(f"1 {unit_text.group()}")
    return Value(value.node, unit, value.text) if unit is not None and unit.known else value


def _in_words(text: str) -> Value | None:
    """`twenty-one` is 21."""
    counted = number_words(text.strip(" .").casefold().replace("-", " "))
    return read(counted) if re.fullmatch(r"\d+", counted) else None


def _in_prose(line: str, gold: Value) -> Value | None:
    """The value that the last sentence states; none where a sentence before it is another value."""
    last = sentence(line)
    value = _in_sentence(last, gold)
    if value is None or last.rstrip().endswith("?"):
        return None
    if says_another(line):
        return None
    if BESIDES.search(last) and re.search(r"\d", line[: line.rfind(last)]):
        return None
    fragment = first_fragment(line)
    first = read(fragment) if fragment else None
    if first is not None and not isinstance(first.node, Sym) and first.node != value.node:
        return None
    return None if _objects(value, line[: line.rfind(last)]) else value


def _counted(statement: Statement, gold: Value) -> Value | None:
    """The number of things that a short response counts: `There are two balls left.`"""
    count = claimed_count(statement.prose) if statement.prose and is_value(gold.node) else None
    return read(number_words(count.lower())) if count else None


def _in_sentence(last: str, gold: Value) -> Value | None:
    """The last mathematics of a sentence: a marked span, a tail that is maths, or a number."""
    spans = [next(part for part in match.groups() if part) for match in _SPAN.finditer(last)]
    if isinstance(gold.node, Group) and len(spans) > 1:
        joined = read(", ".join(spans[-len(gold.node.items) :]))
        if joined is not None:
            return joined
    beyond = last[last.rfind(spans[-1]) + len(spans[-1]) :].lstrip("$)]\\ ") if spans else ""
    if re.search(r"\d", beyond):
        return _tail(beyond) or (_last_number(beyond) if is_value(gold.node) else None)
    for span in reversed(spans[-3:]):
        value = read(span)
        if value is not None and (not isinstance(value.node, Sym) or isinstance(gold.node, Sym)):
            before, _, after = last.rpartition(span)
            return _if_settled(value, before, after)
    return _tail(last) or _in_chinese(last) or (_last_number(last) if is_value(gold.node) else None) or _in_words(last)


def _in_chinese(last: str) -> Value | None:
    """`面积是1000平方米`: no space parts the value from the words before it."""
    if last.isascii() or (said := stated_in_chinese(latex(last).rstrip(" ."))) is None:
        return None
    value, before = read(said[0]), said[1]
    return None if isinstance(value and value.node, Sym) else _if_settled(value, before)


def _if_settled(value: Value | None, before: str, after: str = "") -> Value | None:
    """The value, unless the words around it deny it, change it, or put another one beside it."""
    if value is None or unsettled(before) or DENIED_AFTER.search(after) or leaves_open(after):
        return None
    if UNCLAIMED.search(CLAUSE.split(before[-MAX_BEFORE:])[-1]) or (
        is_value(value.node) and DENIED_THINGS.match(after)
    ):
        return None
    return value


def _tail(line: str) -> Value | None:
    """The longest end of the sentence, from the start of a word, that is mathematics."""
    text = latex(line)[-400:]
    starts = [match.start() for match in _STARTS.finditer(text)][-MAX_SUFFIXES:]
    for start in starts:
        piece = text[start:]
        if piece[0].isalpha() and not re.match(r"[A-Za-z](?:_\w+|\(\w\))?\s*(?:=|\\|[<>])", piece):
            continue
        value = read(piece)
        if value is not None:
            return _if_settled(value, text[:start])
    return None


def _last_number(line: str) -> Value | None:
    """The last number of a sentence, with its unit; none where two are offered."""
    text = latex(line)[-2000:]
    found = [match for match in _NUMBER.finditer(text) if re.search(r"\d", match.group())]
    if not found:
        return None
    last = found[-1]
    unit = _UNIT_AFTER.match(text, last.end())
    with_unit = read(last.group() + unit.group()) if unit else None
    known = with_unit is not None and with_unit.unit is not None and with_unit.unit.known
    settled = _if_settled(read(last.group()), text[: last.start()], text[last.end() :])
    if unit is not None and DENIED_AFTER.search(text[unit.end() :]):  # `5 cm is wrong`
        return None
    return with_unit if settled is not None and known else settled


def same(gold: Value, found: Value, symbolic: Symbolic) -> bool:
    """Whether two values agree, units included. A unit on one side only is what the question implied."""
    units = gold.unit, found.unit
    if PERCENT in units:
        return _same_percent(gold, found, symbolic)
    if gold.unit is None or found.unit is None:
        return matches(gold.node, found.node, symbolic) or _same_angle(gold, found, symbolic)
    if not comparable(gold.unit, found.unit):
        return False
    return matches(gold.node, _scaled(found.node, found.unit.factor / gold.unit.factor), symbolic)


def _same_percent(gold: Value, found: Value, symbolic: Symbolic) -> bool:
    if gold.unit == found.unit:
        return matches(gold.node, found.node, symbolic)
    percent, other = (gold, found) if gold.unit == PERCENT else (found, gold)
    if other.unit is not None:
        return False
    if matches(gold.node, _scaled(found.node, 100 if percent is gold else Fraction(1, 100)), symbolic):
        return True
    # `28` for 28% leaves the sign to the question; below one it would be another number.
    value = other.node
    return isinstance(value, Num) and abs(value.value) >= 1 and matches(gold.node, found.node, symbolic)


def _same_angle(gold: Value, found: Value, symbolic: Symbolic) -> bool:
    """Degrees against a bare number of radians: 30 degrees is pi/6."""
    left, right = (
        Call("deg", (value.node,)) if value.unit is not None and value.unit == DEGREE else value.node
        for value in (gold, found)
    )
    return (left, right) != (gold.node, found.node) and matches(left, right, symbolic)


def _scaled(node: Node, factor: Fraction | int) -> Node:
    if factor == 1:
        return node
    if isinstance(node, Num):
        places = None
        if node.places is not None:
            shift = 2 if factor == 100 else -2 if factor == Fraction(1, 100) else 0
            places = node.places - shift
        return Num(node.value * factor, places)
    return Call("*", (node, Num(Fraction(factor))))
