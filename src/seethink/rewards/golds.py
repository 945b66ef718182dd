"""The gold answers of data rows, as the grader needs them. `seethink.data` is handed `read_gold` by its callers."""

from __future__ import annotations

import re

from seethink.data.quarantine import RowError
from seethink.rewards.grader.extract import extract
from seethink.rewards.grader.golds import ANSWER_TYPES, gold_letter, validate_gold


def read_gold(
    gold: str | float, answer_type: str | None = None, choices: tuple[str, ...] = (), *, is_solution: bool = False
) -> str:
    """The gold of a sample: the letter of the right choice where there are `choices`, else the answer as text.

    With `is_solution`, a gold that is a whole solution gives the answer in its tags or box. Raises RowError for a gold
    that no response could match and for a type that the grader does not know.

    >>> read_gold("Half of 8 is \\\\boxed{4}.", is_solution=True), read_gold("red", choices=("blue", "red"))
    ('4', 'B')
    """
    if answer_type is not None and answer_type not in ANSWER_TYPES:
        known = ", ".join(ANSWER_TYPES)
        raise RowError("bad_answer_type", f"'answer_type': expected one of {known}, found {answer_type[:40]!r}")
    try:
        answer = validate_gold(_stated(gold) if is_solution else gold, answer_type, choices)
    except ValueError as error:
        twice = len({" ".join(choice.split()) for choice in choices}) < len(choices)
        reason = "bad_choices" if twice else "gold_outside_choices" if choices else "bad_gold"
        raise RowError(reason, str(error)) from None
    return (gold_letter(answer, choices) or answer) if choices else answer


def _stated(gold: str | float) -> str | float:
    """The answer in the tags or the box of a solution; other golds stay as they are."""
    if not isinstance(gold, str) or not re.search(r"<answer>|\\boxed|\\fbox", gold):
        return gold
    statement = extract(gold)
    if statement is None or statement.kind not in ("box", "tag"):
        return gold
    return ", ".join(statement.boxes) or statement.text
