# ruff: noqa: E501  (a table of patterns reads better with long lines)
"""Letters of options in running text: lists of them, and which other ones the words after an answer speak for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from seethink.rewards.grader.hedge_patterns import CLAUSE, DENIAL, UNCLAIMED
from seethink.rewards.grader.hedges import unsettled

MAX_LEFT = 400
"""Characters at the end of a text that may say which option is left."""

_ITEM = r"[(\[{]?+\s*+([A-Z])(?:\s*+[)\]}])?+[.:]?+"
_AND = r"(?:,|;|&|\+|/|\||\s|\\\s|\b(?:and|und|et|y|e|plus)\b|和|与|與|及)"
_OR = (
    r"(?:\b(?:or|and/or|also|as well as|but|then|nor|to|through|ou|oder|o|maybe|perhaps|possibly|versus|vs\.?)(?!\w)"
    r"|[-~>=]|或)"
)
_LIST = re.compile(rf"{_ITEM}(?:(?:{_AND}|{_OR})*+{_ITEM})++")
_MIXED = re.compile(r"[A-Za-z](?:\s*[,;/&+]\s*[A-Za-z])+")
"""`A, b, c`: the letters of a list may be of either case."""
_RUN = re.compile(r"[A-Z]{2,12}|[a-z]{2,6}")
_MARK = re.compile(r"(?<![\w'\\])(?:[(\[]\s*([A-Z])\s*[)\]]|([A-Z])(?![\w'+^=]|\s[+=]))")
_ARTICLE = re.compile(
    r"\s(?!(?:is|are|was|and|or|but|because|since|as|would|could|may|might|seems?|looks?|fits|works|too|also)\b)[a-z]"
)
_LISTED = re.compile(r"[.):]\s*\S|\s?[-–:]\s")
_HEAD = re.compile(r"[\w)$]\W*[\s(\[]$")
_CLAIM = re.compile(
    r"\b(?:also|as well|equally|or|alternatively|maybe|perhaps|possibly|actually|instead|rather|correct|right|true|"
    r"answer|valid|possible|plausible|acceptable|works?|fits?|both|choose|pick|select|change|switch|it is|it's)\b"
    r"|\btoo\b\W*$|对|正确",
    re.I,
)
_LINK = re.compile(
    rf"[\s\"'*)\]}}.]*(?:,|;|&|\+|/|\||{_OR}|\b(?:and|plus)\b)[\s,]*(?:{_OR}[\s,]*|option\s|choice\s|the\s)*$", re.I
)
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|possibly|or|might|may|could|not|never)\b[^,]*$|n't\b[^,]*$|\b(?:if|suppose|assuming)\b[^.;]*$|(?:不|没|可能|或)[^,.;:]*$",
    re.I,
)
_LETTER = r"[(\[]?\s*([A-Z])(?![A-Za-z'])\s*[)\]]?"
_OPTION = r"(?:(?i:option|choice|answer|letter)\s)?"
_LEFT = re.compile(
    rf"\b(?i:leav(?:es|ing)(?: us| me)?(?: with)?|left with|remaining (?:option|choice|one) is)(?: (?i:only|just))?\s{_OPTION}"
    rf"{_LETTER}\W*$"
    rf"|\b(?i:only)\s{_OPTION}{_LETTER}\s(?:remains|is left|survives|stands|(?:fits|works|holds|matches|satisfies|is (?:possible|"
    r"consistent|correct|right|valid|true)|can be (?:right|correct|true|valid))(?:\s(?:all|both|the|these|this|every|each|with)"
    r"\b[^.;,]{0,60})?)\W*$"
    rf"|(?:^|[\s,;.]){_LETTER} it is\W*$"
    rf"|\b(?i:by|through|via) (?i:the )?(?i:process of )?(?i:elimination)[,:]?\s(?:(?i:it's|it is|we get)\s)?{_OPTION}{_LETTER}\W*$"
    rf"|只有\s*(?:选项|選項)?\s*{_LETTER}\s*(?:选项|選項|项|項)?\s*(?:是|为|為|最)?"
    r"(?:符合|正确|正確|满足|滿足|成立|对|對|合适|合適|可能)[^不非没無无,.;]{0,20}\W*$"
    rf"|(?:只剩下?|剩下|余下|留下)(?:的?(?:只有|是)|了|的)?\s*(?:选项|選項)?\s*{_LETTER}\s*(?:选项|選項|项|項)?\W*$"
    rf"|(?:不是|并非|不选|不選|不为)[^.;]{{1,40}}?而(?:应该?|應該?)?(?:是|选|選|为|為)\s*(?:选项|選項)?\s*{_LETTER}\s*(?:选项|選項|项|項)?\W*$"
)
"""At the end of a text: the option that is left when the others are ruled out."""
_REASON = re.compile(r"\b(?:because|since|as|due|for|given|where|which|note|that|if|while|whereas|when)\b", re.I)


def letter_list(text: str, letters: Sequence[str]) -> list[str] | None:
    """The letters of a text that is nothing but letters and what joins them; None for any other text.

    >>> letter_list("A, C", "ABCD"), letter_list("(A)(B)", "ABCD"), letter_list("A cat", "ABCD")
    (['A', 'C'], ['A', 'B'], None)
    """
    said = text.strip(" .,;:*'\"[](){}")
    if _MIXED.fullmatch(said) and not said.islower():
        text = said = said.upper()
    if len(said) == 1:
        return [said.upper()] if said.upper() in letters else None
    if _RUN.fullmatch(said):
        found = list(said.upper())
        return found if set(found) <= set(letters) and (said.isupper() or sorted(set(found)) == found) else None
    if len(text) > 200 or not _LIST.fullmatch(text.strip(" .,;:*'\"")):
        return None
    found = re.findall(r"(?<![A-Za-z])[A-Z](?![A-Za-z])", text)
    return found if found and set(found) <= set(letters) else None


def left_over(text: str, letters: Sequence[str]) -> str | None:
    """The option that a text says is left when the others are ruled out.

    >>> left_over("The others fail; only C remains.", "ABCD"), left_over("Not only C remains.", "ABCD")
    ('C', None)
    """
    match = _LEFT.search(text[-MAX_LEFT:])
    if match is None:
        return None
    letter = next(part for part in match.groups() if part)
    before = text[-MAX_LEFT:][: match.start()]
    clause = CLAUSE.split(before)[-1]
    if letter not in letters or unsettled(before) or UNCLAIMED.search(clause) or _UNSURE.search(before):
        return None
    return letter


def is_open_list(text: str) -> bool:
    """Whether a list of letters leaves open which of them are meant: `A or C`, `A-D`."""
    return re.search(_OR, text, re.I) is not None


def marked(text: str, letters: Sequence[str]) -> list[tuple[str, int, int]]:
    """Letters that stand for options, with their places; the article `A` and the pronoun `I` are none."""
    found = []
    for match in _MARK.finditer(text):
        letter = match[1] or match[2]
        if letter in letters and not (match[2] and letter in "AI" and _ARTICLE.match(text, match.end())):
            found.append((letter, *match.span()))
    return found


def speaks_for_another(rest: str, letter: str, letters: Sequence[str]) -> bool:
    """Whether the words after an answer name another option as an answer too, or go on with a list of options."""
    for number, clause in enumerate(CLAUSE.split(rest)):
        others = [place for place in marked(clause, letters) if place[0] != letter]
        if not others or DENIAL.search(clause):
            continue
        before = clause[: others[0][1]]
        linked = number == 0 and _LINK.fullmatch(before) and not _REASON.search(before)
        listed = any(_LISTED.match(clause, end) or end == len(clause) > 2 for _, _, end in others) and number == 0
        if linked or _CLAIM.search(clause) or (listed and not _REASON.search(before)):
            return True
    return not DENIAL.search(rest) and any(
        other != letter and _HEAD.search(rest[max(0, start - 20) : start]) and _LISTED.match(rest, end)
        for other, start, end in marked(rest, letters)
    )
