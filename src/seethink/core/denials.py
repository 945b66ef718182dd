"""Statements in a response that the image cannot be seen or is not there (paper 6.4), found by pattern.

"I can't see any red shape in the image" and "the image is not to scale" speak about the picture's content and do not
count. Patterns are matched on a normalised text of the same length, so that spans are valid in the original.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from seethink.core.denial_patterns import CHINESE, ENGLISH, HINT, JAPANESE, KOREAN, NOUN, OTHERS, WORDS
from seethink.core.types import Sample

Span = tuple[int, int]

_PLAIN = {"’": "'", "‘": "'", "ʼ": "'", "`": "'", "\u00a0": " ", "\n": " ", "\t": " ", "–": "-", "—": "-"}


def normalise(text: str) -> str:
    """Lower case, plain quotes and spaces, compatibility forms resolved, one character for each character of `text`."""
    if text.isascii():
        return text.translate({10: " ", 9: " ", 96: "'"}).lower()
    return "".join(map(_plain, text))


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    found = _PLAIN.get(char) or unicodedata.normalize("NFKC", char).lower()
    return found if len(found) == 1 else char


@lru_cache(maxsize=1)
def _patterns() -> re.Pattern[str]:
    english = [pattern.format(**WORDS) for pattern in ENGLISH]
    return re.compile("|".join(f"(?:{p})" for p in (*english, *CHINESE, *JAPANESE, *KOREAN, *OTHERS)))


_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？…]*")
_NOUN, _HINT = re.compile(NOUN), re.compile(HINT)


def denial_spans(text: str) -> list[Span]:
    """[start, end) of every statement that the image cannot be seen or is not there; in order, none overlapping."""
    plain, found = normalise(text), []
    for sentence in _SENTENCE.finditer(plain):
        if _NOUN.search(sentence[0]) and _HINT.search(sentence[0]):
            found += [_moved(match.span(), sentence.start()) for match in _patterns().finditer(sentence[0])]
    return found


def hallucinations(sample: Sample, response: str) -> list[Span]:
    """The denials in a response; none where the sample has no image, because then they are true."""
    return denial_spans(response) if sample.images else []


def _moved(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by
