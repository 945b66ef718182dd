"""The rule grader: a response and a gold answer in, a verdict and its reason out.

    >>> grade("<think>6 times 7</think> The answer is \\\\boxed{42}.", "42").verdict
    <Verdict.CORRECT: 'correct'>

A response is graded in three steps: `extract` finds the stated answer, `golds` tells what kind of answer the gold
is, and `choice`, `maths` or `text` compares the two. What cheap arithmetic cannot settle goes to a process that can
be killed (`pool`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from seethink.core.types import Grade, Verdict
from seethink.rewards.grader import maths
from seethink.rewards.grader.choice import Choices
from seethink.rewards.grader.clean import CACHED
from seethink.rewards.grader.compare import NeedsSymbolicError, Symbolic, refuse
from seethink.rewards.grader.extract import Statement, extract
from seethink.rewards.grader.golds import gold_letter, kind_of, validate_gold
from seethink.rewards.grader.pool import WORKERS, PoolError
from seethink.rewards.grader.symbolic import equal_in_worker
from seethink.rewards.grader.syntax import Node
from seethink.rewards.grader.text import (
    first_sentence_is,
    normalise,
    same_text,
    says,
    yes_or_no,
)

__all__ = ["grade", "grade_batch", "validate_gold"]

Item = tuple[str, str, str | None, Sequence[str] | None]
"""(response, gold, answer_type, choices)"""

MAX_SHOWN = 400
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def grade(response: str, gold: str, answer_type: str | None = None, choices: Sequence[str] | None = None) -> Grade:
    """Grade one response against the gold answer, as the reward does (paper 3.1).

    Args:
        response: What a model wrote. It is never run; what takes too long is given up in a process of its own.
        gold: The right answer: a letter where there are `choices`, else a number, LaTeX or text.
        answer_type: The kind of answer (`number`, `interval_set`, ...); None tells it from the gold.
        choices: Option texts in the order A, B, C, ...

    Returns:
        The verdict (ERROR where symbolic work did not end in time), the answer that was found, and the deciding rule.

    Raises:
        ValueError: No response could match the gold answer.
    """
    return _grade(response, gold, answer_type, choices, equal_in_worker)


def grade_batch(items: Sequence[Item]) -> list[Grade]:
    """Grade many responses, in order: the cheap ones here, the symbolic ones side by side in worker processes."""
    grades: list[Grade | None] = []
    waiting: list[int] = []
    for place, item in enumerate(items):
        try:
            grades.append(_grade(*item, refuse))
        except NeedsSymbolicError:
            grades.append(None)
            waiting.append(place)
    if waiting:
        with ThreadPoolExecutor(WORKERS) as threads:
            for place, result in zip(waiting, threads.map(lambda i: grade(*items[i]), waiting), strict=True):
                grades[place] = result
    return [result for result in grades if result is not None]


def _grade(
    response: str, gold: str, answer_type: str | None, choices: Sequence[str] | None, symbolic: Symbolic
) -> Grade:
    options = tuple(str(choice) for choice in choices) if choices else ()
    gold = _checked(gold if isinstance(gold, str) else str(gold) if gold is not None else "", answer_type, options)
    statement = extract(response)
    if statement is None:
        return Grade(Verdict.NO_ANSWER, None, "no answer is stated")
    try:
        correct, reason = _decide(statement, gold, answer_type, options, symbolic)
    except PoolError as problem:
        return Grade(Verdict.ERROR, statement.text[:MAX_SHOWN], str(problem))
    return Grade(Verdict.CORRECT if correct else Verdict.WRONG, statement.text[:MAX_SHOWN], reason)


@lru_cache(maxsize=CACHED)
def _checked(gold: str, answer_type: str | None, options: tuple[str, ...]) -> str:
    return validate_gold(gold, answer_type, options)


@lru_cache(maxsize=CACHED)
def _decide(
    statement: Statement, gold: str, answer_type: str | None, options: tuple[str, ...], symbolic: Symbolic
) -> tuple[bool, str]:
    """Whether the statement is right, and which rule says so."""
    kind = kind_of(gold, answer_type, options)
    rule: Callable[..., tuple[bool, str]] = {
        "choice": _by_choice, "letter": _by_letter, "maths": _by_maths, "text": _by_text,
    }[kind]  # fmt: skip
    return rule(statement, gold, options, symbolic)


def _by_choice(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    def same(option: str, text: str) -> bool:
        return _same_answer(option, text, _never)  # ten options must not mean ten deadlines

    right = gold_letter(gold, options)
    named = Choices(options, same).read(statement)
    return named == right, f"choice: {named or 'no single option'}, gold {right}"


def _by_letter(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    right = normalise(gold).strip("()[]. ").upper()
    named = Choices((), same_text, letters=max(10, ord(right) - ord("A") + 1)).read(statement)
    return named == right, f"letter: {named or 'no single letter'}, gold {right}"


def _by_maths(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    clock = _CLOCK.fullmatch(gold.strip(" $"))
    if clock:
        times = [_clock(match.groups()) for match in _CLOCK.finditer(statement.text)]
        return times[-1:] == [_clock(clock.groups())], f"time: gold {gold}"
    target = maths.read(gold)
    assert target is not None
    if not statement.boxes and same_text(gold, statement.text) and maths.read(statement.text) is None:
        return True, f"maths, as text: gold {gold[:80]}"
    shown = "nothing that can be read"
    for value in maths.answered(statement, target):
        shown = value.text[:80]
        if maths.same(target, value, symbolic):
            return True, f"maths: {shown} = {gold[:80]}"
    return False, f"maths: {shown}, gold {gold[:80]}"


def _clock(parts: tuple[str | None, ...]) -> tuple[int, ...]:
    return tuple(int(part) for part in parts if part is not None)


def _by_text(statement: Statement, gold: str, options: tuple[str, ...], symbolic: Symbolic) -> tuple[bool, str]:
    lines = [statement.text, statement.first_line] if statement.kind in ("free", "bold") else [statement.text]
    spoken = [yes_or_no(gold, line) for line in lines if line]
    if spoken and spoken[0] is not None:
        correct = any(spoken) and not _contradicts(lines)
    else:
        correct = same_text(gold, lines[0]) or (
            statement.kind != "box" and (says(gold, lines[0]) or first_sentence_is(gold, lines[0]))
        )
    return correct or says(gold, lines[0]), f"text: {statement.text[:80]!r}, gold {gold[:80]!r}"


def _contradicts(lines: Sequence[str]) -> bool:
    """One line says yes and the other no."""
    said = {word for word in ("yes", "no", "true", "false") for line in lines if line and yes_or_no(word, line)}
    return len(said) > 1


def _never(gold: Node, found: Node) -> bool:
    """The `symbolic` of options: an answer names an option in the option's own form, so arithmetic is enough."""
    return False


def _same_answer(gold: str, found: str, symbolic: Symbolic) -> bool:
    """Whether a text states the answer of an option, by value or by words."""
    if same_text(gold, found):
        return True
    target, value = maths.read(gold), maths.read(found)
    return target is not None and value is not None and maths.same(target, value, symbolic)
