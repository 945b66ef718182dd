"""What a response says against its own answer: denials, alternatives, and second answers beside the first.

More than one answer, or one that is denied, is no answer, unless a later explicit statement settles it.
"""

from __future__ import annotations

from collections.abc import Iterator

from seethink.rewards.grader.hedge_patterns import (
    ANOTHER_TOO,
    BULLET,
    CLAUSE,
    CONTRAST,
    DENIAL,
    DENIED_AFTER,
    DENIED_BEFORE,
    INTERJECTION,
    MORE,
    NEXT_LINE,
    NOT_BARE,
    RESTATED,
    SAME_AGAIN,
    SENTENCE_END,
    SETTLES,
    TAKEN_BACK,
    TURN,
    UNSETTLED,
)


def without_contrast(text: str) -> str:
    """`5 rather than 6`, `5, not 6` and `not 6 but 5` as the 5 that they state."""
    if not DENIAL.search(text):
        return text
    return CONTRAST.sub("", TURN.sub("", text)).strip() or text


def last_claim(text: str) -> str | None:
    """The clause that a line ends on, where the line denies something; None where that clause itself denies.

    >>> last_claim("It can't be red, so it is blue."), last_claim("It is not blue.")
    ('it is blue.', None)
    """
    text = without_contrast(text)
    if not DENIAL.search(text):
        return text
    last = CLAUSE.split(text)[-1]
    return None if DENIAL.search(last) else last


def taken_back(before: str, after: str) -> bool:
    """Whether the words around an answer deny it, or put another one beside it."""
    if after and (DENIED_AFTER.search(after) or leaves_open(after)):
        return True
    return bool(before) and DENIED_BEFORE.search(before[-80:]) is not None


def leaves_open(after: str) -> bool:
    """Whether what follows an answer takes it back, or offers another one too."""
    if TAKEN_BACK.search(after):
        return True
    if NEXT_LINE.match(after):
        return True
    line = after.partition("\n")[0]
    return ANOTHER_TOO.search(line) is not None and not SAME_AGAIN.search(line)


def unsettled(before: str) -> bool:
    """Whether the words before a value make it another one, or one of several: `half of`, `not`, `5 or`."""
    before = before.rstrip(" $\\([{*\"'")
    if not before:
        return False
    return UNSETTLED.search(before[-60:]) is not None or (
        MORE.search(before[-40:]) is not None and any(char.isdigit() for char in before)
    )


def first_fragment(text: str) -> str | None:
    """The first sentence of several, where it is but a word or a value: an answer of its own, unless words settle it.

    >>> first_fragment("Cat. It is a dog"), first_fragment("Cat. No, it is a dog")
    ('Cat', None)
    """
    first, *rest = SENTENCE_END.split(text.strip(), maxsplit=1)
    if not rest or len(first.split()) > 3 or INTERJECTION.match(first) or SETTLES.search(rest[0][:40]):
        return None
    return first


def unlisted(line: str) -> str:
    """A line without the mark of a list item."""
    return BULLET.sub("", line.strip("_ "), count=1).strip("*_ ")


def is_bare(line: str) -> bool:
    """Whether a line is an answer without a sentence around it, and no heading or step."""
    if len(line) > 40 or len(line.split()) > 3 or line.startswith(("#", "-", "+", "=", "|", "<", ">")):
        return False
    return not NOT_BARE.search(line) and (line.casefold() in ("yes", "no") or not INTERJECTION.match(line))


def restatements(after: str) -> Iterator[str]:
    """What the words after an answer say that it is: the `dog` of `cat, because it is dog`."""
    for match in RESTATED.finditer(after):
        yield match[1].strip()
