"""Whether a right answer stands: the words around it may deny it, or put another one beside it."""

from __future__ import annotations

from collections.abc import Callable

from seethink.rewards.grader import maths
from seethink.rewards.grader.extract import Statement
from seethink.rewards.grader.golds import kind_of
from seethink.rewards.grader.hedge_patterns import ALTERNATIVE, ALTERNATIVE_BEFORE, OPEN
from seethink.rewards.grader.hedges import restatements, taken_back
from seethink.rewards.grader.rounded import is_rounding
from seethink.rewards.grader.rules import decide, never
from seethink.rewards.grader.text import (
    is_another,
)
from seethink.rewards.grader.values import is_value, read


def stands(statement: Statement, gold: str, answer_type: str | None, options: tuple[str, ...]) -> bool:
    """Whether the words around a right answer neither deny it nor put another one beside it."""
    before, rest = statement.before, statement.rest
    opened = OPEN.search(statement.text) if statement.kind != "box" else None
    if opened is not None and not any(OPEN.search(text) for text in (gold, *options)):
        return False
    if statement.boxes:
        before = ""  # the other boxes stand there
    if not before.strip() and not rest.strip():
        return True
    kind = kind_of(gold, answer_type, options)
    if kind == "maths" and maths.lists_several(statement.before, statement.text, gold):
        return False

    def right(text: str) -> bool:
        said = text.strip(" .,;:$*()")
        if kind == "maths" and is_rounding(gold, said):
            return True
        return bool(said) and decide(Statement(said, "tag"), gold, answer_type, options, never)[0]

    alternative = ALTERNATIVE.search(rest.partition("\n")[0])
    if taken_back(before, rest) and not (alternative and right(alternative[1])):
        return False
    other = ALTERNATIVE_BEFORE.search(before)
    if other and not right(other[1]):
        return False
    return not any(_conflicts(said, kind, right) for said in restatements(rest.lstrip()[:120]))


def _conflicts(said: str, kind: str, right: Callable[[str], bool]) -> bool:
    """Whether `it is ...` after an answer states another one of the same kind."""
    if kind == "maths":
        value = read(said)
        return value is not None and is_value(value.node) and not right(said)
    if kind in ("choice", "letter", "lettered"):
        return len(said.strip("() ")) == 1 and said.strip("() ").isupper() and not right(said)
    return kind == "text" and is_another(said) and not right(said)
