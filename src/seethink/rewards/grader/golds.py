"""Gold answers: checked when they are loaded, so that no run stops at step 900 on a row that nobody can answer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from seethink.rewards.grader import maths
from seethink.rewards.grader.clean import CACHED, latex, plain, words
from seethink.rewards.grader.syntax import NotMathsError
from seethink.rewards.grader.text import normalise

_LETTER = re.compile(r"\s*[(\[]?\s*([A-Za-z])\s*[)\].:]?\s*")
_CHOICE_TYPES = ("mc", "mc_text", "choice", "multiple_choice", "mcq")
_MATHS_TYPES = ("number", "fraction", "percent", "scientific", "mixed_number", "matrix", "interval_set", "latex")
ANSWER_TYPES = (*_MATHS_TYPES, "number_unit", "equation", "tuple_list", "text", *_CHOICE_TYPES)
"""The kinds of answer that a data row may name. The grader tells the kind of a gold by itself where none is named."""


def validate_gold(gold: object, answer_type: str | None = None, choices: Sequence[str] | None = None) -> str:
    """The gold as text. Raises ValueError where no response could match it."""
    if gold is None or (isinstance(gold, float) and math.isnan(gold)):
        raise ValueError(f"gold answer: expected text or a number, found {gold!r}; fill it in or drop the row")
    text = plain(str(gold)).strip()
    if not text or text in ("nan", "NaN", "None", "null"):
        raise ValueError(f"gold answer: expected text or a number, found {str(gold)!r}; fill it in or drop the row")
    if answer_type is not None and answer_type not in ANSWER_TYPES:
        known = ", ".join(ANSWER_TYPES)
        raise ValueError(f"answer_type: expected one of {known}, found {str(answer_type)[:40]!r}")
    if choices:
        _check_choices(text, list(choices))
    elif answer_type in _MATHS_TYPES and (_unbalanced(text) or maths.read(text) is None):
        raise ValueError(
            f"gold answer: expected an answer of type {answer_type!r}, found {text[:80]!r}, which cannot be read; "
            "correct it, or set answer_type to 'text'"
        )
    return text


def _check_choices(gold: str, choices: list[str]) -> None:
    squeezed = [" ".join(str(choice).split()) for choice in choices]
    repeated = sorted({choice for choice in squeezed if squeezed.count(choice) > 1})
    if repeated:
        raise ValueError(f"choices: expected different texts, found {repeated[0]!r} twice; remove one of the two")
    if gold_letter(gold, choices) is None:
        last = chr(ord("A") + len(choices) - 1)
        raise ValueError(f"gold answer: expected a letter A to {last} or the text of a choice, found {gold[:80]!r}; "
                         "correct the gold or the choices")  # fmt: skip


@lru_cache(maxsize=CACHED)
def _letter_among(gold: str, choices: tuple[str, ...]) -> str | None:
    match = _LETTER.fullmatch(gold)
    if match and ord(match[1].upper()) - ord("A") < len(choices):
        return match[1].upper()
    for key in (lambda text: text.strip(), lambda text: normalise(str(text))):
        found = [i for i, choice in enumerate(choices) if key(choice) == key(gold)]
        if len(found) == 1:
            return chr(ord("A") + found[0])
    return None


def gold_letter(gold: str, choices: Sequence[str]) -> str | None:
    """The letter of the right option; the gold is that letter or the option's text."""
    return _letter_among(gold, tuple(str(choice) for choice in choices))


def _unbalanced(text: str) -> bool:
    return text.count("{") != text.count("}")


def kind_of(gold: str, answer_type: str | None, choices: Sequence[str] | None) -> str:
    """How the gold is compared: choice, letter (a letter without its options), maths or text."""
    if choices:
        return "choice"
    lone_letter = re.fullmatch(r"[A-J]|\([A-J]\)", words(latex(gold)).strip())
    if answer_type in _CHOICE_TYPES or (answer_type is None and lone_letter):
        return "letter" if lone_letter or _LETTER.fullmatch(gold) else "text"
    if answer_type == "text" and not re.search(r"\d", gold):
        return "text"
    try:
        return "maths" if maths.is_maths(gold) and not re.fullmatch(r"[A-Za-z]{2,}", words(latex(gold))) else "text"
    except NotMathsError:
        return "text"
