"""Dates, scores, ranges and telephone numbers: digits that are read as they stand and never computed.

`2024-01-02` is no subtraction, and `555-1234` no number below zero.
"""

from __future__ import annotations

import re
from functools import lru_cache

from seethink.rewards.grader.clean import CACHED, latex, words
from seethink.rewards.grader.units import read_unit

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}")
_CODE = re.compile(r"\(?\+?\d{1,14}\)?(?:(?:\s?-\s?|\)\s?)\(?\d{1,14}\)?)+|\d{1,2}:\d{2}\s?-\s?\d{1,2}:\d{2}")
_RANGE = re.compile(
    rf"[$€£¥]?\s?{_NUMBER}(?:\s?[%°]|\s?\\%|\s(?!pi\b)[a-zA-Z]{{2,}})?\s?-\s?[$€£¥]?\s?{_NUMBER}"
    r"(?:\s?[%°]|\s?\\%|\s([a-zA-Z][\w ^/]*))?"
)
_DIGIT_SIGN = re.compile(r"\d.*[-/.:—–].*\d", re.S)
_SPOKEN = re.compile(r"\s?(?:\bto\b|\buntil\b|\bthrough\b|\btill\b|~|至|到)\s?", re.I)
_BETWEEN = re.compile(r"^between\s+(\S+(?:\s[a-zA-Z]+)?)\s+and\s+", re.I)
_LEAD = re.compile(r"^(?:from|about|approximately|around|roughly)\s+", re.I)


@lru_cache(maxsize=CACHED)
def is_code(text: str) -> bool:
    """Whether a gold or an option is a date, a score, a range or a number to call."""
    if len(text) > 80 or not _DIGIT_SIGN.search(text):
        return False
    said = _plain(text)
    date = _DATE.fullmatch(said)
    if date:
        return date[1] != "." or len(max(said.split("."), key=len)) == 4
    span = _RANGE.fullmatch(said)
    return bool(_CODE.fullmatch(said)) or (span is not None and (span[1] is None or read_unit(span[1]) is not None))


def same_code(gold: str, found: str) -> bool:
    """Whether a statement gives the same digits in the same places; leading zeros, and `to` for a dash, do not matter.

    >>> same_code("2024-01-02", "2024-1-2"), same_code("1945-1950", "from 1945 to 1950"), same_code("3-2", "2-1")
    (True, True, False)
    """
    said = _SPOKEN.sub("-", _LEAD.sub("", _BETWEEN.sub(r"\1-", _plain(found))))
    if not is_code(said):
        return False
    left, right = _parts(_plain(gold)), _parts(said)
    if left == right:
        return True
    # A unit that only one of the two states is what the question implied; a currency sign is one.
    bare = [[part for part in parts if part[0].isdigit() or part in "-/.:"] for parts in (left, right)]
    units = [{part for part in parts if part not in own} for parts, own in zip((left, right), bare, strict=True)]
    return bare[0] == bare[1] and (units[0] == units[1] or not all(units))


def _plain(text: str) -> str:
    said = words(latex(text)).strip(" .,;:*`\"'").replace("--", "-").replace("—", "-")
    return re.sub(r"\s+", " ", said.replace("^\\circ", "°").replace("^{\\circ}", "°"))


def _parts(text: str) -> list[str]:
    """The digits of each field without leading zeros, the separators, and the words."""
    fields = re.findall(r"\d+(?:,\d{3})*(?:\.\d+(?=\D*$|\D*-))?|[-/.:]|[$€£¥%°]|[a-zA-Z]+", re.sub(r"[()+]", " ", text))
    return [
        re.sub(r"^0+(?=\d)", "", field.replace(",", "")) if field[0].isdigit() else field.lower() for field in fields
    ]
