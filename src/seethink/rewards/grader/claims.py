"""What a short response without a marked answer claims: the option that its sentences name, or the count they give.

Only plain claims are read. A sentence that hedges, denies or reports what others say claims nothing, and where two
sentences claim different things the response claims nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from seethink.rewards.grader.clean import CACHED
from seethink.rewards.grader.hedge_patterns import DENIAL, SETTLES, UNCLAIMED
from seethink.rewards.grader.hedges import leaves_open
from seethink.rewards.grader.text import NUMBER_WORDS, normalise, truth

_SENTENCE = re.compile(r"(?<=[\w)%\"'$}\]*])[.!]\s+(?=[A-Z])|\n+")
CLAUSE = re.compile(r"[,;:]\s+")
SUBORDINATE = re.compile(
    r"(?:if|when|while|although|though|since|because|as|based|according|compared|from|in|given|after|before|looking|"
    r"considering|unlike|for|at|among|of|to|with|such as|like|including|on|by|until|once|where|both)\b",
    re.I,
)
_PRONOUN = re.compile(r"^(?:it|they|he|she) (?:would|will|is|was|are|were) (?:also )?(?=\w{4})")
REASON = re.compile(
    r",\s+(?:because|since|which|due to|as|so|specifically)\b|\s+(?:because|since|due to|as (?:it|they))\b"
)
_CONDITION = re.compile(r"\sif\s[^,.]{3,80}?\s(?=(?:would be|will be|is|are)\s)|\sif\s(?:(?!\bnot\b|n't)[^,.])*$")
_MODAL = r"(?: (?:will|would|likely|most likely))* "
UNSURE = re.compile(
    r"\b(?:or|nor|either|neither|both|may|might|could|would have|maybe|perhaps|possibly|possible|plausible|probabl[ey]|"
    r"potentially|between|than|versus|vs|if|whether|unless|depends?|depending|determine|determined|question|asks?|asked|"
    r"options?|choices?|candidates?|says?|said|claims?|claimed|thought|thinks?|think|believed?|considers?|considered|"
    r"guess|assum\w*|suppos\w*|imagine|pretend|example|initially|at first|(?:less|least) likely|instead|rather|but|"
    r"however|although|though|also|too|another|alternatively|opposite|half|unsure|unclear|seems?|appears?|looks|"
    r"everything|anything|none|no|some|people|fails?|lacks|of them|one is|used to|was once|similar|"
    r"similarly|lead to|leads to|previously|earlier|formerly|before(?=\W*$))\b|\?",
    re.I,
)
_BEFORE = frozenset((
    "is", "are", "was", "were", "be", "been", "as", "by", "on", "in", "for", "called", "named", "shows", "show",
    "represents", "represent", "indicates", "has", "have", "contains", "namely", "will", "would", "likely", "picture",
    "there", "most", "that", "a", "an", "the", "its", "form", "known",
))  # fmt: skip
_AFTER = frozenset((
    "of", "with", "at", "in", "on", "for", "by", "that", "which", "who", "is", "are", "was", "were", "would", "will",
    "has", "have", "had", "when", "after", "during", "because", "since", "as", "due", "population",
    "model", "side", "group", "one", "they", "it", "this",
))  # fmt: skip
_WORDS = "|".join(NUMBER_WORDS)
NUMBER = re.compile(rf"(?<![\w.,-])-?\d[\d,]*(?:\.\d+)?(?![\w.-]*\d)|\b(?:{_WORDS})\b", re.I)
_NO_COUNT = (
    r"(?!(?:or|to|and|of|out|times|plus|minus|more|less|fewer|dozens?|hundreds?|thousands?|millions?|billions?|halves|"
    r"thirds|quarters|fifths|sixths|sevenths|eighths|ninths|tenths|pairs?|per|percent|answers|possibilities|options|choices|cases|steps)\b)"
)
_COUNT = re.compile(
    rf"\bthere\s(?:are|is|were|was|will be|would be|remain(?:s|ed)?)\s(?:only |just |exactly |a total of |in total )?"
    rf"(\d+|{_WORDS})\s{_NO_COUNT}[a-z][a-z-]+",
    re.I,
)
_FIRST = re.compile(
    rf"(?!one\b)(\d+|{_WORDS})\s{_NO_COUNT}(?:[a-z-]+\s){{1,3}}?(?:are|were|have|had)\s",
    re.I,
)
_BESIDE = re.compile(
    r"\b(?:that|which|who|whose|where|with|(?:less|more|fewer|larger|greater|bigger|higher|smaller|lower) than|"
    r"at least|at most|over|under|above|below)\b",
    re.I,
)


MAX_SENTENCES = 24
MAX_OPTIONS = 64


def sentences(text: str) -> list[str]:
    """The sentences of a short response."""
    return [part.strip() for part in _SENTENCE.split(text.strip()) if part.strip()]


def claimed_option(prose: str, options: Sequence[str]) -> int | None:
    """The place of the one option that a response claims in its first or last sentence; None where it is not plain.

    >>> claimed_option("There is a surplus of 5 units.", ["shortage", "surplus"])
    1
    """
    spoken = [_spoken(option) for option in options[: MAX_OPTIONS + 1]]
    if len(spoken) > MAX_OPTIONS or len(set(spoken)) < len(spoken):
        return None
    parts = sentences(prose)
    if any(_ALSO.search(option) for option in options):  # `It would also decrease.` is an option's own word
        parts = [_ALSO.sub("", part) for part in parts]
    claims = [_claimed(part, spoken) for part in parts]
    named = {place for place in claims if place is not None}
    if len(named) != 1 or (claims[0] is None and claims[-1] is None):
        return None
    place = named.pop()
    if len(spoken[place]) < 3 or not spoken[place][0].isalpha() or truth(spoken[place]) is not None:
        return None
    return None if any(_objects(part, spoken, place) for part in parts) else place


def _spoken(option: str) -> str:
    """An option as a sentence would say it: `decrease` for `It would also decrease`, `frog` for `Frogs`."""
    return _PRONOUN.sub("", plain_words(option))


@lru_cache(maxsize=CACHED)
def plain_words(text: str) -> str:
    """A text in the grader's spelling, with every plural as its singular."""
    return " ".join(stem(word) for word in normalise(text).split())


_IRREGULAR = {
    "leaves": "leaf", "halves": "half", "wolves": "wolf", "knives": "knife", "shelves": "shelf", "loaves": "loaf",
    "calves": "calf", "hooves": "hoof", "thieves": "thief", "scarves": "scarf", "lives": "life", "wives": "wife",
    "children": "child", "women": "woman", "men": "man", "feet": "foot", "teeth": "tooth", "geese": "goose",
    "mice": "mouse",
}  # fmt: skip


def stem(word: str) -> str:
    """`frog` for `frogs`, `leaf` for `leaves`."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith("ss") else word


def _claimed(sentence: str, spoken: Sequence[str]) -> int | None:
    """The option that a sentence claims, if its main clauses name one and nothing in them speaks against it."""
    claim = _CONDITION.sub(" ", REASON.split(_unlettered(sentence, spoken), maxsplit=1)[0])
    main = [part for part in CLAUSE.split(claim) if not SUBORDINATE.match(part)]
    found = {place for part in main for place in _mentions(plain_words(part), spoken)}
    if len(found) != 1:
        return None
    place = found.pop()
    if place < 0:
        return None
    around = _pattern(spoken[place]).sub(" ", " ".join(plain_words(part) for part in main))
    return None if UNSURE.search(around) or DENIAL.search(around) else place


def _unlettered(sentence: str, spoken: Sequence[str]) -> str:
    """`the (C) Fish` as the fish that it names, where C is the fish's letter."""

    def own(match: re.Match[str]) -> str:
        place = ord(match[1]) - ord("A")
        rest = plain_words(sentence[match.end() :])
        return "" if place < len(spoken) and spoken[place] and rest.startswith(spoken[place]) else match.group()

    return re.sub(r"\(([A-J])\)\s*", own, sentence) if "(" in sentence else sentence


def _mentions(said: str, spoken: Sequence[str]) -> Iterator[int]:
    """The options that a clause names as words of their own, the longest at each place; -1 for a name within a name."""
    taken: list[tuple[int, int]] = []
    for place in sorted(range(len(spoken)), key=lambda i: -len(spoken[i])):
        for match in _found(spoken[place], said):
            start, end = match.span()
            if any(low < end and start < high for low, high in taken):
                continue
            taken.append((start, end))
            before, after = said[:start].split(), said[end:].split()
            leads = not before or (before[-1] in _BEFORE and before[-2:-1] != ["such"])
            plain = (leads or spoken[place].count(" ") > 1) and (not after or after[0] in _AFTER)
            yield place if plain else -1


def _found(option: str, said: str) -> Iterator[re.Match[str]]:
    """Where a clause says an option."""
    if len(option) > 1 and all(word in said for word in option.split()):
        yield from _pattern(option).finditer(said)


@lru_cache(maxsize=CACHED)
def _pattern(option: str) -> re.Pattern[str]:
    """An option within a clause; `plants will increase` is `plants increase`."""
    return re.compile(rf"(?<!\w){_MODAL.join(map(re.escape, option.split()[:20]))}(?!\w)")


def _objects(sentence: str, spoken: Sequence[str], place: int) -> bool:
    """Whether a sentence takes the claim back, denies it, or offers another option, however unsurely."""
    if leaves_open(sentence) or SETTLES.search(sentence[:40]):
        return True
    named = set(_mentions(plain_words(sentence), spoken)) - {-1}
    if place in named and DENIAL.search(_pattern(spoken[place]).sub(" ", plain_words(sentence))):
        return True
    return bool(named - {place}) and UNSURE.search(sentence) is not None


_FILLED = "#"
_ALSO = re.compile(r"\b(?:also|too)\b ?")
_NEXT = re.compile(r"\b(?:also|too|then|first|second|third|fourth|next|finally|[1-9](?:st|nd|rd|th))\b ?")


@lru_cache(maxsize=CACHED)
def says_another(prose: str, options: tuple[str, ...] = ()) -> bool:
    """Whether the last of several sentences says of another option, or number, what one before it said.

    >>> says_another("There are 3 balls. There are 4 balls.")
    True
    """
    parts = sentences(prose) if "." in prose or "\n" in prose or "!" in prose else []
    if not 2 <= len(parts) <= MAX_SENTENCES or len(options) > MAX_OPTIONS:
        return False
    spoken = [_spoken(option) for option in options]
    last = _frame(parts[-1], spoken)
    if last is None:
        return False
    more = bool(options) and _ALSO.search(parts[-1]) is not None
    earlier = (_frame(part, spoken) for part in parts[:-1])
    return any(other is not None and other[1] != last[1] and (more or other[0] == last[0]) for other in earlier)


def _frame(sentence: str, spoken: Sequence[str]) -> tuple[str, str] | None:
    """The words of a sentence around the only option in it, or the only number, and which one it is."""
    said = (_NEXT if spoken else _ALSO).sub("", plain_words(sentence) if spoken else normalise(sentence))
    found = [
        (str(place), match)
        for place, option in enumerate(spoken)
        if option[:1].isalpha()
        for match in _found(option, said)
    ]
    if not spoken:
        found = [(match.group(), match) for match in NUMBER.finditer(said)]
    if len(found) != 1 or len(found[0][1].group()) == len(said):
        return None
    name, match = found[0]
    return said[: match.start()] + _FILLED + said[match.end() :], name


def claimed_count(prose: str) -> str | None:
    """The number of things that the last sentence counts, or the first where no other has a number.

    >>> claimed_count("There are two balls left."), claimed_count("There are two or three balls left.")
    ('two', None)
    """
    *before, last = sentences(prose) or [""]
    if says_another(prose):
        return None
    count = _counted(last)
    if count is None and before and not any(TOTALS.search(part) or _unsettles(part) for part in [*before[1:], last]):
        count = _counted(before[0])
    return count


TOTALS = re.compile(
    r"=|\b(?:total|sum|altogether|in all|answer|count|"
    r"there (?:is|are|were) (?:\d|only|just)|so|thus|hence|therefore)\b",
    re.I,
)


def _unsettles(sentence: str) -> bool:
    return bool(DENIAL.search(sentence) or SETTLES.search(sentence) or leaves_open(sentence))


def _counted(sentence: str) -> str | None:
    """The `two` of `There are two balls left.`

    Other numbers may stand in what qualifies the things alone, and nothing in the sentence may hedge or deny.
    """
    found = list(_COUNT.finditer(sentence))
    if not found and (first := _FIRST.match(sentence)):
        found = [first]
    if len(found) != 1 or _unsettles(sentence):
        return None
    before, beyond = sentence[: found[0].start()], sentence[found[0].end() :]
    if re.match(r"\s*(?:less|more|fewer) than\b", beyond):  # 5 balls less than 10
        return None
    qualified = _BESIDE.split(beyond, maxsplit=1)[0]
    around = before + qualified
    if UNCLAIMED.search(before):
        return None
    return None if NUMBER.search(around) or UNSURE.search(around) or leaves_open(beyond) else found[0][1]
