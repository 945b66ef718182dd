"""Answers in words: case, articles, punctuation and number words do not matter; every other word does."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from seethink.rewards.grader.clean import CACHED, latex, words

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 10**9}

_COMMANDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit|operatorname)(?![a-zA-Z])|[{}]|\\(?=[%$#&_{}])")
_EDGES = ' \t\n.,;:!?"`*_'
_PUNCTUATION = re.compile(r"[\"`*!?;…“”]|[.,:](?=\s|$)|(?<!\w)'|'(?!\w)")
_INITIALS = re.compile(r"\b([a-z])\.(?=[a-z]\b|\s|$)")
_SUBSCRIPT = re.compile(r"_(?=\d)")
REASON = re.compile(r",?\s+(?:because|since|which|due to|as it)\b")
_ARTICLES = re.compile(r"\b(?:the|an|a)\s+(?=\S)")
_DASH = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})|\s-\s|\s+|_")
_COPULA = re.compile(
    r"\b(?:is|are|was|were|will|would be|be|being|called|named|known as|becomes?|equals?|by|:)(?=\s)", re.I
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|isn't|aren't|wasn't|doesn't|don't|won't|can't)\b", re.I
)
_HEDGE = re.compile(r"\b(?:or|either|maybe|perhaps)\b", re.I)
_YES_NO = re.compile(r"(yes|no|true|false)(?=\s*(?:[,.!;:–—-]|$)|\s+(?:it|they|he|she|there|this|that) )", re.I)


@lru_cache(maxsize=CACHED)
def normalise(text: str) -> str:
    """One spelling for answers that say the same."""
    said = _COMMANDS.sub("", words(latex(text))).strip(_EDGES)
    folded = unicodedata.normalize("NFKD", said).casefold()
    folded = "".join(c for c in folded if not unicodedata.combining(c)).replace("&", " and ")
    folded = _PUNCTUATION.sub(" ", _INITIALS.sub(r"\1", _SUBSCRIPT.sub("", folded)))
    folded = _DASH.sub(" ", folded).strip()
    return number_words(_ARTICLES.sub("", folded)).strip(_EDGES) or folded


def number_words(text: str) -> str:
    """`twenty one apples` -> `21 apples`."""
    if not any(word in _NUMBERS or word in _SCALES for word in text.split()):
        return text
    result: list[str] = []
    total = current = 0
    counting = False
    for word in [*text.split(), ""]:
        if word in _NUMBERS and (not counting or current % 100 == 0 or (current % 10 == 0 and _NUMBERS[word] < 10)):
            current, counting = current + _NUMBERS[word], True
        elif counting and word in _SCALES:
            scale = _SCALES[word]
            total, current = (total, current * scale) if scale == 100 else (total + current * scale, 0)
        elif counting and word == "and" and (current % 100 == 0):
            continue
        else:
            if counting:
                result.append(str(total + current))
                total = current = 0
                counting = False
            if word in _NUMBERS:
                current, counting = _NUMBERS[word], True
            elif word:
                result.append(word)
    return " ".join(result)


def same_text(gold: str, found: str) -> bool:
    """Whether two texts differ in case, articles and punctuation alone; in symbols such as XAXa case matters."""
    return normalise(gold) == normalise(found) and not _case_matters(gold, found)


def _case_matters(gold: str, found: str) -> bool:
    left, right = words(gold).split(), words(found).split()
    if len(left) != len(right):
        return False
    pairs = zip(left, right, strict=True)
    return any(a != b and a.casefold() == b.casefold() and _mixed(a) and _mixed(b) for a, b in pairs)


def _mixed(word: str) -> bool:
    return word not in (word.lower(), word.upper(), word.capitalize(), word.title())


def sentence(text: str) -> str:
    """The last sentence of a line."""
    parts = re.split(r"(?<=[a-z0-9)$}*])[.!?]\s+(?=[A-Z$\\])", text.strip())
    return parts[-1]


def says(gold: str, line: str) -> bool:
    """Whether a sentence ends on the gold after `is`, `called`, `will` and the like, and denies nothing."""
    last = sentence(line)
    if _NEGATION.search(last) or _HEDGE.search(last):
        return False
    tails = [last[match.end() :] for match in _COPULA.finditer(last)]
    return any(same_text(gold, tail) for tail in tails)


def first_sentence_is(gold: str, line: str) -> bool:
    """`Paris. It lies on the Seine.` states Paris, and so does `Paris, because ...`."""
    first = re.split(r"(?<=[a-z0-9)])[.!]\s+(?=[A-Z])", line.strip())[0]
    return same_text(gold, first) or same_text(gold, REASON.split(first, maxsplit=1)[0])


def yes_or_no(gold: str, line: str) -> bool | None:
    """For a gold of yes, no, true or false: the word that the line begins with, if it stands alone."""
    if normalise(gold) not in ("yes", "no", "true", "false"):
        return None
    said = words(latex(line)) if "\\" in line or "$" in line else line
    match = _YES_NO.match(said.strip(_EDGES + "({"))
    return match is not None and match[1].casefold() == normalise(gold)
