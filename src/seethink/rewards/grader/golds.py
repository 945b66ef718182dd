"""Gold answers: checked when they are loaded, so that no run stops at step 900 on a row that nobody can answer."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from functools import lru_cache

from seethink.rewards.grader import maths
from seethink.rewards.grader.clean import CACHED, latex, plain, words
from seethink.rewards.grader.codes import is_code
from seethink.rewards.grader.extract import extract
from seethink.rewards.grader.letters import is_open_list, letter_list
from seethink.rewards.grader.syntax import NotMathsError
from seethink.rewards.grader.text import normalise
from seethink.rewards.grader.values import read

_LETTERED = re.compile(r"[(\[]?([A-J])(?:[.):]|[)\]][.:]?)\s+(\S.*)", re.S)
_STATES = re.compile(r"<answer>|\\boxed|\\fbox|\n\s*####\s|^####\s", re.I)
_LIST = re.compile(r"\[\s*['\"].*['\"]\s*,?\s*\]", re.S)
MAX_ALLOWED = 64
_LETTER = re.compile(r"\s*[(\[]?\s*([A-Za-z])\s*[)\].:]?\s*")
_CHOICE_TYPES = ("mc", "mc_text", "choice", "multiple_choice", "mcq")
_MATHS_TYPES = ("number", "fraction", "percent", "scientific", "mixed_number", "matrix", "interval_set", "latex")
ANSWER_TYPES = (*_MATHS_TYPES, "number_unit", "equation", "tuple_list", "text", *_CHOICE_TYPES)
"""The kinds of answer that a data row may name. The grader tells the kind of a gold by itself where none is named."""


def validate_gold(gold: object, answer_type: str | None = None, choices: Sequence[str] | None = None) -> str:
    """The gold as text, out of its tags or box. Raises ValueError where no response could match it."""
    if gold is None or (isinstance(gold, float) and not math.isfinite(gold)):
        raise ValueError(f"gold answer: expected text or a number, found {gold!r}; fill it in or drop the row")
    text = unwrapped(plain(str(gold)).strip())
    if not text or (text in ("nan", "NaN", "None", "null") and not (choices and gold_letter(text, choices))):
        raise ValueError(f"gold answer: expected text or a number, found {str(gold)!r}; fill it in or drop the row")
    if answer_type is not None and answer_type not in ANSWER_TYPES:
        known = ", ".join(ANSWER_TYPES)
        raise ValueError(f"answer_type: expected one of {known}, found {str(answer_type)[:40]!r}")
    each = allowed(text)
    if len(each) > 1 or each != (text,):
        for one in each:
            validate_gold(one, answer_type, choices)
        return text
    if choices:
        _check_choices(text, list(choices))
    elif answer_type in _MATHS_TYPES and not is_code(text) and (_unbalanced(text) or read(text) is None):
        raise ValueError(
            f"gold answer: expected an answer of type {answer_type!r}, found {text[:80]!r}, which cannot be read; "
            "correct it, or set answer_type to 'text'"
        )
    return text


def unwrapped(gold: str) -> str:
    """The answer that a gold states in tags, in a box or after `####`; other golds stay as they are."""
    if not _STATES.search(gold):
        return gold
    statement = extract(gold)
    if statement is None or (statement.kind not in ("box", "tag") and "####" not in gold):
        return gold
    return ", ".join(statement.boxes) or statement.text


@lru_cache(maxsize=CACHED)
def allowed(gold: str) -> tuple[str, ...]:
    """The golds of a list of texts, as JSON or Python writes it: each of them is right.

    >>> allowed("['24/7', '3.429']"), allowed("[1, 2]")
    (('24/7', '3.429'), ('[1, 2]',))
    """
    if len(gold) > 4096 or not _LIST.fullmatch(gold):
        return (gold,)
    try:
        found = ast.literal_eval(gold)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return (gold,)
    texts = tuple(dict.fromkeys(text.strip() for text in found if isinstance(text, str) and text.strip()))
    return texts if texts and len(texts) <= MAX_ALLOWED and len(found) >= len(texts) else (gold,)


def _check_choices(gold: str, choices: list[str]) -> None:
    if gold_letter(gold, choices) is None and letter_set(gold, None, tuple(choices)) is None:
        last = chr(ord("A") + len(choices) - 1)
        raise ValueError(f"gold answer: expected a letter A to {last} or the text of a choice, found {gold[:80]!r}; "
                         "correct the gold or the choices")  # fmt: skip


@lru_cache(maxsize=CACHED)
def _letter_among(gold: str, choices: tuple[str, ...]) -> str | None:
    written = [i for i, choice in enumerate(choices) if choice.strip() == gold.strip()]
    if len(written) == 1 and len(gold.strip()) > 1:  # the option `(b)` may be any letter's
        return chr(ord("A") + written[0])
    match = _LETTER.fullmatch(gold)
    if match and ord(match[1].upper()) - ord("A") < len(choices):
        return match[1].upper()
    for key in (lambda text: text.strip(), lambda text: normalise(str(text))):
        found = [i for i, choice in enumerate(choices) if key(choice) == key(gold)]
        if found and len({key(choices[i]) for i in found}) == 1:
            return chr(ord("A") + found[0])
    lettered = _LETTERED.fullmatch(gold)
    if lettered and ord(lettered[1]) - ord("A") < len(choices):
        index = ord(lettered[1]) - ord("A")
        return lettered[1] if normalise(choices[index]) in (normalise(lettered[2]), normalise(gold)) else None
    return None


def gold_letter(gold: str, choices: Sequence[str]) -> str | None:
    """The letter of the right option; the gold is that letter or the option's text."""
    return _letter_among(gold, tuple(str(choice) for choice in choices))


def _unbalanced(text: str) -> bool:
    return text.count("{") != text.count("}")


@lru_cache(maxsize=CACHED)
def letter_set(gold: str, answer_type: str | None, choices: Sequence[str] | None) -> frozenset[str] | None:
    """The letters of a gold that names several options, such as `AC` or `A, C`; None for any other gold."""
    if answer_type in _MATHS_TYPES or len(gold) > 80:
        return None
    count = len(choices) if choices else 8
    found = letter_list(gold, [chr(ord("A") + i) for i in range(min(count, 26))])
    if not found or len(found) < 2 or len(set(found)) < len(found) or is_open_list(gold):
        return None
    if choices or answer_type in _CHOICE_TYPES:
        return frozenset(found)
    separated = re.search(r"[^A-Z]", gold.strip()) is not None
    return frozenset(found) if (separated or found == sorted(found)) and not gold.islower() else None


def lettered(gold: str, answer_type: str | None) -> tuple[str, str] | None:
    """The letter and the text of a gold such as `C. Mixed`, whose options are in the question alone."""
    match = _LETTERED.fullmatch(gold) if answer_type not in _MATHS_TYPES else None
    return (match[1], match[2]) if match else None


def kind_of(gold: str, answer_type: str | None, choices: Sequence[str] | None) -> str:
    """How the gold is compared: choice, letter or lettered (without its options), letters, code, maths or text."""
    return _kind_of(gold, answer_type, tuple(choices) if choices else ())


@lru_cache(maxsize=CACHED)
def _kind_of(gold: str, answer_type: str | None, choices: tuple[str, ...]) -> str:
    if choices:
        alone = gold_letter(gold, choices) is not None
        return "choice" if alone or letter_set(gold, answer_type, choices) is None else "letters"
    lone_letter = re.fullmatch(r"[A-J]|\([A-J]\)", words(latex(gold)).strip())
    if (answer_type in _CHOICE_TYPES and _LETTER.fullmatch(gold)) or (
        lone_letter and (answer_type is None or answer_type in _CHOICE_TYPES)
    ):
        return "letter"
    if letter_set(gold, answer_type, None) is not None:
        return "letters"
    if lettered(gold, answer_type):
        return "lettered"
    if answer_type in _CHOICE_TYPES:
        return "text"
    if is_code(gold):
        return "code"
    if answer_type == "text" and not re.search(r"\d", gold):
        return "text"
    try:
        return "maths" if maths.is_maths(gold) and not re.fullmatch(r"[A-Za-z]{2,}", words(latex(gold))) else "text"
    except NotMathsError:
        return "text"
