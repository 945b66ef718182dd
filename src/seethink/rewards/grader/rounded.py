"""Answers that give a value twice: exactly, and in decimals."""

from __future__ import annotations

import re
from functools import lru_cache

from seethink.rewards.grader.claims import says_another
from seethink.rewards.grader.clean import CACHED, latex, words
from seethink.rewards.grader.equations import roughly
from seethink.rewards.grader.hedge_patterns import DENIAL, UNCLAIMED
from seethink.rewards.grader.hedges import unsettled
from seethink.rewards.grader.syntax import Const, Node, Num
from seethink.rewards.grader.values import Value, is_value, read

_ROUNDED = re.compile(
    r"(.+?)\$?\s*[,(]?\s*\(?(?:or |i\.e\.,? )?(?:\\approx|approx(?:imately|\.)?|about|roughly|or|=)\s*"
    r"\$?(-?[\d.,]+)\s*\)?"
)
_EXACT_LAST = re.compile(
    r"(.{0,200}?)(?:\babout|\bapproximately|\broughly|\\approx|约为|約為|约|約|≈)\s*\$?(-?[\d.,]+)\$?\s*[(,]\s*\(?"
    r"(?:(?:the )?exact(?:ly)?(?: value)?(?: is|:| =)?|(?:精确|精確|准确|準確)值?(?:为|為|是|:)?)\s*(.{1,80}?)\s*\)?"
)
_EXACTLY = re.compile(r"(.{0,200})\b(?:is|equals)\s+(?:exactly |precisely |equal to )?(?=\S)")


@lru_cache(maxsize=CACHED)
def both_forms(text: str) -> tuple[Value, Value] | None:
    """The exact value and the decimals of a text that gives both, in either order."""
    said = words(latex(text)).strip(" .$")
    first, last = _ROUNDED.fullmatch(said), _EXACT_LAST.fullmatch(said)
    if last is not None:
        if unsettled(last[1]) or DENIAL.search(last[1]) or UNCLAIMED.search(last[1]):
            return None
        exact, rounded = read(last[3].strip(" $,")), read(last[2])
    elif first is not None:
        exact, rounded = read(first[1].strip(" $,")) or _after_verb(first[1].strip(" $,")), read(first[2])
    else:
        return None
    if exact is None or rounded is None or isinstance(exact.node, Num) or not _is_exact(exact.node):
        return None
    return (exact, rounded) if roughly(exact.node, rounded.node) else None


def _after_verb(text: str) -> Value | None:
    """The `2\\pi` of `the length is exactly 2\\pi`, where nothing before it denies it or is another value."""
    verb = _EXACTLY.match(text)
    if verb is None or DENIAL.search(text) or UNCLAIMED.search(text) or unsettled(verb[1]) or says_another(text):
        return None
    return read(text[verb.end() :])


def _is_exact(node: Node) -> bool:
    return is_value(node) or node == Const("pi")


def is_rounding(gold: str, text: str) -> bool:
    """Whether a text gives the decimals of an exact gold."""
    exact, rounded = read(gold), read(text)
    if exact is None or rounded is None or isinstance(exact.node, Num) or not isinstance(rounded.node, Num):
        return False
    return is_value(exact.node) and roughly(exact.node, rounded.node)
