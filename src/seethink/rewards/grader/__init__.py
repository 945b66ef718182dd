"""The rule grader: a response and a gold answer in, a verdict and its reason out.

    >>> grade("<think>6 times 7</think> The answer is \\\\boxed{42}.", "42").verdict
    <Verdict.CORRECT: 'correct'>

A response is graded in four steps: `extract` finds the stated answer, `golds` tells what kind of answer the gold is,
`rules` compares the two by `choice`, `maths` or `text`, and `standing` hears what the response says around the answer.
What cheap arithmetic cannot settle goes to a process that can be killed (`pool`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from seethink.core.types import Grade, Verdict
from seethink.rewards.grader.asked import as_asked, is_of_another
from seethink.rewards.grader.clean import CACHED
from seethink.rewards.grader.compare import NeedsSymbolicError, Symbolic, refuse
from seethink.rewards.grader.extract import Statement, extract
from seethink.rewards.grader.golds import allowed, validate_gold
from seethink.rewards.grader.pool import WORKERS, PoolError
from seethink.rewards.grader.restated import added, compared, restated
from seethink.rewards.grader.rules import decide
from seethink.rewards.grader.standing import stands
from seethink.rewards.grader.symbolic import equal_in_worker
from seethink.rewards.grader.text import normalise, truth

__all__ = ["grade", "grade_batch", "validate_gold"]

Item = tuple[str, str, str | None, Sequence[str] | None] | tuple[str, str, str | None, Sequence[str] | None, str]
"""(response, gold, answer_type, choices), and the question where it is known: `X is not Y.` may answer `Is X Y?`"""

MAX_SHOWN = 400
_WORD = re.compile(r"\w+")


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
    return _grade((response, gold, answer_type, choices), equal_in_worker)


def grade_batch(items: Sequence[Item]) -> list[Grade]:
    """Grade many responses, in order: the cheap ones here, the symbolic ones side by side in worker processes."""
    grades: list[Grade | None] = []
    waiting: list[int] = []
    for place, item in enumerate(items):
        try:
            grades.append(_grade(item, refuse))
        except NeedsSymbolicError:
            grades.append(None)
            waiting.append(place)
    if waiting:
        with ThreadPoolExecutor(WORKERS) as threads:
            for place, result in zip(
                waiting, threads.map(lambda i: _grade(items[i], equal_in_worker), waiting), strict=True
            ):
                grades[place] = result
    return [result for result in grades if result is not None]


def _grade(item: Item, symbolic: Symbolic) -> Grade:
    response, gold, answer_type, choices, *question = item
    options = tuple(str(choice) for choice in choices) if choices else ()
    golds = _golds(gold if isinstance(gold, str) else str(gold) if gold is not None else "", answer_type, options)
    statement = extract(response)
    if statement is None:
        return Grade(Verdict.NO_ANSWER, None, "no answer is stated")
    if question and statement.prose.count(" ") >= 2 and _share_words(question[0], statement.prose):
        statement = _restated(statement, question[0], golds, options)
    if question and "=" in statement.text and not options:
        if is_of_another(statement, question[0]):
            return Grade(Verdict.WRONG, statement.text[:MAX_SHOWN], "another unknown than the one asked for")
        statement = as_asked(statement, question[0])
    correct, reason = False, ""
    for each in golds:
        try:
            correct, reason = decide(statement, each, answer_type, options, symbolic)
        except PoolError as problem:
            return Grade(Verdict.ERROR, statement.text[:MAX_SHOWN], str(problem))
        if correct and not stands(statement, each, answer_type, options):
            correct, reason = False, f"denied or left open: {reason}"
        if correct:
            break
    return Grade(Verdict.CORRECT if correct else Verdict.WRONG, statement.text[:MAX_SHOWN], reason)


def _share_words(question: str, prose: str) -> bool:
    """Whether two words at least are in both: without them a response cannot say its question again."""
    return len(set(_WORD.findall(question.lower())).intersection(_WORD.findall(prose.lower()))) > 1


def _restated(statement: Statement, question: str, golds: Sequence[str], options: Sequence[str]) -> Statement:
    """What a response answers by saying the question again: yes or no where that is asked for, else what it adds."""
    meant = _truths(tuple(options or golds))
    if meant:
        said = restated(question, statement.prose)
        return statement if said is None else Statement(meant.get(said) or ("yes" if said else "no"), "free")
    named = compared(question, statement.prose)
    if named is None or not (named in map(normalise, options) if options else named.isdigit()):
        named = added(question, statement.prose, options)
    return statement if named is None else Statement(named, "free")


@lru_cache(maxsize=CACHED)
def _truths(answers: tuple[str, ...]) -> dict[bool, str]:
    """The answers that mean yes and no, where all of them do."""
    meant = {truth(answer): answer for answer in answers}
    return {key: answer for key, answer in meant.items() if key is not None} if None not in meant else {}


@lru_cache(maxsize=CACHED)
def _golds(gold: str, answer_type: str | None, options: tuple[str, ...]) -> tuple[str, ...]:
    """The golds of a row, each of them right; a list of letters is one answer, the set of them."""
    each = allowed(validate_gold(gold, answer_type, options))
    if options and len(each) > 1 and all(len(one) == 1 for one in each):
        return (", ".join(each),)
    return each
