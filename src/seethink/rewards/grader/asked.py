"""The equation that an answer writes, against what its question asks: the other side of it, or another unknown."""

from __future__ import annotations

import re
from dataclasses import replace

from seethink.rewards.grader.clean import latex
from seethink.rewards.grader.extract import Statement

_NAME = r"(?:[A-Za-z]|\\[a-zA-Z]{2,8})"
_EQUATION = re.compile(r"([^=<>]{1,80})=([^=<>]{1,80})")
_GAP = re.compile(r"([^=?.,;:\n]{1,80})=\s*\$?\s*(?:\?|_{2,}|\\square|\(\s*\))")
_WORDS = re.compile(r"\b(?:then|is|find|what|of|calculate|evaluate|compute|determine|so|and|thus)\b", re.I)
_UNKNOWN = re.compile(
    rf"\b(?:find|solve for|determine|calculate|what is|value of)\s+(?:the value of\s+)?({_NAME})\s*(?=[.?,;]|$)", re.I
)
_SQUEEZE = re.compile(r"[\s{}]|\\cdot|\*")


def as_asked(statement: Statement, question: str) -> Statement:
    """`2x + 1 = 7` to `2x + 1 = ?` as the 7 that it states."""
    gap = _GAP.search(latex(question)) if "=" in question else None
    said = _equation(statement) if gap is not None else None
    if gap is None or said is None or _SQUEEZE.sub("", _WORDS.split(gap[1])[-1]) != _SQUEEZE.sub("", said[1]):
        return statement
    return replace(statement, text=said[2].strip(" $"))


def is_of_another(statement: Statement, question: str) -> bool:
    """Whether an answer gives a value to another unknown than the one that is asked for.

    The other one is the question's too, or the response gives the asked one a value besides.
    """
    said = _equation(statement)
    name = said[1].strip() if said else ""
    if not re.fullmatch(_NAME, name):
        return False
    question = latex(question)
    asked = set(_UNKNOWN.findall(question))
    if len(asked) != 1 or name in asked:
        return False
    wanted = asked.pop()
    return (
        _names(name, question)
        or re.search(rf"(?<![A-Za-z\\]){re.escape(wanted)}\s*=", latex(f"{statement.before} {statement.rest}"))
        is not None
    )


def _names(name: str, question: str) -> bool:
    """Whether a question, as `latex` gives it, has an unknown of this name; the article `a` is none."""
    said = re.escape(name)
    beside = rf"(?<![A-Za-z\\]){said}\s*[-+*/=^<>]|[-+*/=^\d<>]\s*{said}(?![A-Za-z])"
    return re.search(beside, question) is not None


def _equation(statement: Statement) -> re.Match[str] | None:
    """The two sides of an answer that is one equation."""
    return _EQUATION.fullmatch(latex(statement.text).strip(" ."))
