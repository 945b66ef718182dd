"""The gold answers of data rows, as the grader needs them. `seethink.data` is handed `read_gold` by its callers.

A gold is what a response has to state, so it is read as the grader reads responses: the answer in its tags or box,
after `The answer is` or after `####`, and the letter where options are to choose from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from seethink.data.quarantine import RowError
from seethink.data.values import from_json
from seethink.rewards.grader.extract import extract
from seethink.rewards.grader.golds import ANSWER_TYPES, MAX_ALLOWED, allowed, letter_set, validate_gold
from seethink.rewards.grader.text import normalise

_TAGS = re.compile(r"<(answer|final_?answer|ans|solution|result)>(.*?)</\1>", re.I | re.S)
_GLM_BOX = re.compile(r"<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.S)
_MARKED = re.compile(r"</?(?:answer|think)>|\\boxed|\\fbox|####", re.I)
_DRESS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathbb)\s*\{([^{}]*)\}|[$*]")
_LETTER = re.compile(
    r"((?:the\s+)?(?:option|choice|answer|letter)\s*:?\s*)?[(\[（]?\s*([A-Za-z])\s*[)\]）.:：．]?", re.I
)
_LETTER_TEXT = re.compile(
    r"(?:option\s+|choice\s+)?(?:[(\[（]\s*([A-Za-z])\s*[)\]）][.:：]?|([A-Z])\s*(?:[):：．、）]|\.(?!\s?[A-Z]\.)))\s*"
    r"((?:[^\W_]|[$\\\"'“‘]|[-−.]\d).*)",
    re.S,
)
_SHOWN = re.compile(r"(?<![A-Za-z])(?:[(\[（]\s*([A-Ja-j])\s*[)\]）]|([A-J])\s*[.):：．、）])\s*(?=\S)")
_MAX_SHOWN = 80
_SAME_VALUE = 0.02
"""Relative difference up to which numbers are one value, rounded in several ways."""


def read_gold(gold: Any, answer_type: str | None = None, choices: Sequence[str] = (), question: str = "") -> str:
    """The gold of a sample: the letter of the right choice where there are `choices`, else the answer as text.

    Of a list of texts each is right; it is returned as JSON.

    `question` tells whether a gold such as `B. blue` names an option that the question shows. Raises RowError for a
    gold that no response could match and for a type that the grader does not know.

    >>> read_gold("Half of 8 is \\\\boxed{4}."), read_gold("B. red", choices=("blue", "red")), read_gold("2 #### 2")
    ('4', 'B', '2')
    """
    if answer_type is not None and answer_type not in ANSWER_TYPES:
        known = ", ".join(ANSWER_TYPES)
        raise RowError("bad_answer_type", f"'answer_type': expected one of {known}, found {answer_type[:40]!r}")
    gold = _single(gold)
    if isinstance(gold, list):
        return _several(gold, answer_type, choices, question)
    if isinstance(gold, bool):
        return _of_boolean(gold, choices)
    text = _stated(_as_text(gold))
    if choices:
        return _letter(gold, text, tuple(choices))
    text = text if answer_type == "text" else _of_shown_options(text, question)
    try:
        return validate_gold(text, answer_type)
    except ValueError as error:
        raise RowError("bad_gold", str(error).removeprefix("gold answer: ")) from None


def _single(gold: Any) -> Any:
    """The gold itself, the one entry of a list, or a list of several texts. Raises RowError."""
    while isinstance(gold, list | tuple) and len(gold) == 1:
        gold = gold[0]
    if isinstance(gold, str | int | float):
        return gold
    if isinstance(gold, Decimal):
        return str(gold)
    if isinstance(gold, list | tuple) and gold and all(isinstance(one, str) and one.strip() for one in gold):
        return list(gold)
    if isinstance(gold, list | tuple):
        said = (
            f"expected one answer or several texts, found a list of {len(gold)}; give texts where each is right, "
            'and one text ("1, 2") where a response must state them all'
        )
        raise RowError("bad_gold", said)
    raise RowError("bad_gold", f"expected text or a number, found {type(gold).__name__}; give the answer alone")


def _several(golds: list[str], answer_type: str | None, choices: Sequence[str], question: str) -> str:
    """Several golds as the JSON text of a list, each of them right. Raises RowError for one that is bad."""
    if choices:
        said = (
            f"found a list of {len(golds)} beside choices; give the letters in one text (AC) where all must be chosen"
        )
        raise RowError("bad_gold", said)
    read = list(dict.fromkeys(read_gold(gold, answer_type, (), question) for gold in golds))
    text = read[0] if len(read) == 1 else json.dumps(read, ensure_ascii=False)
    if len(read) > 1 and len(allowed(text)) != len(read):
        raise RowError("bad_gold", f"expected at most {MAX_ALLOWED} short answers, found a list of {len(golds)}")
    values = [value for one in read if (value := _number(one)) is not None]
    if values and max(values) - min(values) > _SAME_VALUE * max(map(abs, values)):
        said = f'found {read[0]!r} and others, which are not one value; give one text ("1, 2") where all must be stated'
        raise RowError("bad_gold", said)
    return text


def _number(text: str) -> float | None:
    """The value of a plain number; None for anything else."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _as_text(gold: str | float) -> str:
    if isinstance(gold, float):
        if not math.isfinite(gold):
            raise RowError("bad_gold", f"expected text or a finite number, found {gold!r}; write it as text")
        return str(int(gold)) if gold.is_integer() and abs(gold) < 1e15 else str(gold)
    return str(gold)


def _of_boolean(gold: bool, choices: Sequence[str]) -> str:
    """The letter of the option that says yes, or no. Raises RowError where no option does."""
    words = ("true", "yes") if gold else ("false", "no")
    said = [place for place, choice in enumerate(choices) if normalise(choice) in words]
    if len(said) == 1:
        return chr(ord("A") + said[0])
    advice = "give the letter" if choices else f'write what the response must say, such as "{words[1]}" or "{words[0]}"'
    raise RowError("bad_gold", f"expected text or a number, found {str(gold).lower()}; {advice}")


def _stated(text: str) -> str:
    """The answer that a gold states in tags, in a box or after words such as `The answer is`; else the whole text.

    Raises RowError where the marks of an answer are there and no answer is.
    """
    text = text.rpartition("</think>")[2].strip()
    if isinstance(from_json(text), dict):
        raise RowError("bad_gold", "expected text or a number, found an object as text; give the answer alone")
    for pattern in (_GLM_BOX, _TAGS):
        marked = pattern.findall(text)
        text = (marked[-1] if isinstance(marked[-1], str) else marked[-1][-1]).strip() if marked else text
    statement = extract(text)
    if statement is not None and statement.kind in ("box", "tag"):
        return ", ".join(statement.boxes) or statement.text
    if statement is not None and statement.kind == "phrase":
        said = statement.text.strip()
        return said.removesuffix(".") if said.count(".") == 1 or re.fullmatch(r"[\d,.]+", said) else said
    if _MARKED.search(text):
        said = f"expected an answer, found {text[-_MAX_SHOWN:]!r}, which marks one and states none; give it alone"
        raise RowError("bad_gold", said)
    return text


def _undressed(text: str) -> str:
    """A letter or an option's text without LaTeX's and Markdown's dress."""
    return _DRESS.sub(lambda match: match[1] or "", text).strip()


def _letter(gold: str | float, text: str, choices: tuple[str, ...]) -> str:
    """The letter of the choice that a gold names, or the letters of a set. Raises RowError where it names none."""
    whole = _as_text(gold)
    if not isinstance(gold, str) and whole in choices and whole.isdigit() and int(whole) <= len(choices):
        same = chr(ord("A") + choices.index(whole))
        said = f"found {whole}, the text of choice {same} and perhaps the number of another; give the letter"
        raise RowError("gold_outside_choices", said)
    named = (_named(said, choices) for said in dict.fromkeys((whole, text, _undressed(text))))
    letter = next((letter for letter in named if letter is not None), None)
    if letter is not None:
        return letter
    if letter_set(text, None, choices) is not None:
        return text
    last = chr(ord("A") + len(choices) - 1)
    advice = "choices may count from 0 or from 1: give the letter" if text.isdigit() else "give one of them"
    found = f"expected a letter A to {last} or the text of a choice, found {text[:_MAX_SHOWN]!r}; {advice}"
    raise RowError("gold_outside_choices", found)


def _named(said: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the choice that a text names by its letter, its text or both; None where it names none."""
    alone = _LETTER.fullmatch(said.strip())
    letter = alone[2].upper() if alone and ord(alone[2].upper()) - ord("A") < len(choices) else None
    texts = _places(said, choices)
    if letter is not None and texts and letter not in texts:
        if not said.strip().islower():
            found = f"found {said!r}, a letter and the text of choice {texts[0]}; give the letter and the text"
            raise RowError("gold_outside_choices", found)
        letter = None
    if letter is not None:
        return letter
    if len(texts) > 1:
        found = f"found {said[:_MAX_SHOWN]!r}, the text of choices {' and '.join(texts)}; give the letter"
        raise RowError("gold_outside_choices", found)
    if texts:
        return texts[0]
    both = _LETTER_TEXT.fullmatch(said.strip())
    letter = (both[1] or both[2]).upper() if both else ""
    if both is None or ord(letter) - ord("A") >= len(choices):
        return None
    texts = _places(both[3], choices)
    if texts and letter not in texts:
        found = f"found {said[:_MAX_SHOWN]!r}, but this is the text of choice {texts[0]}; correct one of the two"
        raise RowError("gold_outside_choices", found)
    return letter


def _places(text: str, choices: tuple[str, ...]) -> list[str]:
    """The letters of the choices with this text: as it is written, else in the grader's spelling."""
    for spelling in (_squeezed, normalise):
        wanted = spelling(text)
        found = [chr(ord("A") + place) for place, choice in enumerate(choices) if spelling(choice) == wanted]
        if found:
            return found
    return []


def _of_shown_options(text: str, question: str) -> str:
    """The letter of a gold such as `B. blue` where the question shows its options; other golds as they are.

    Raises RowError where such a gold's options are not shown: a response cannot give the letter.
    """
    alone, both = _LETTER.fullmatch(text), _LETTER_TEXT.fullmatch(text)
    if both is None and not (alone and alone[1]):
        return text
    letter = (both[1] or both[2] if both else alone[2]).upper()  # type: ignore[index]
    shown = {(m[1] or m[2]).upper(): _squeezed(question[m.end() :]).casefold() for m in _SHOWN.finditer(question)}
    if not {"A", "B", letter} <= shown.keys():
        if both is None or letter > "J":
            return text
        said = (
            f"found {text[:_MAX_SHOWN]!r}, as of an option {letter}, but the row has no choices and its question shows "
            "none; give 'choices', or the answer alone (answer_type 'text' keeps it as it is)"
        )
        raise RowError("bad_gold", said)
    named = [other for other, rest in shown.items() if both and rest.startswith(_squeezed(both[3]).casefold())]
    if named and letter not in named:
        said = f"found {text[:_MAX_SHOWN]!r}, but the question shows this as {named[0]}; correct one of the two"
        raise RowError("bad_gold", said)
    return letter


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def bare_answers(answer: str, choices: Sequence[str]) -> list[str]:
    """What a response may say at its shortest: the letter and the option's text, or the answer without tags and words.

    The doctor asks the grader about each: a gold that was read with more than the answer matches none.
    """
    if choices and len(answer) != 1:  # a set of letters, or none
        return [answer]
    if choices:
        text = choices[ord(answer) - ord("A")]
        return [answer, text] if "<image>" not in text else [answer]
    try:
        return [_stated(each) for each in allowed(answer)]
    except RowError:  # marks without an answer, which no response matches
        return [answer]


def shown_gold(answer: str) -> str:
    """A gold for people and for the verifier: `24/7 or 3.429` where several are right."""
    return " or ".join(allowed(answer))
