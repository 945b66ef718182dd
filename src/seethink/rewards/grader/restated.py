"""Responses that say their question again: `X is not Y.` to `Is X Y?`, `2019 had more.` to `Which year had more?`

What such a response adds to the words of its question, in their order, is its answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from seethink.rewards.grader.claims import (
    CLAUSE,
    MAX_OPTIONS,
    NUMBER,
    REASON,
    SUBORDINATE,
    TOTALS,
    UNSURE,
    plain_words,
    says_another,
    sentences,
    stem,
)
from seethink.rewards.grader.clean import CACHED
from seethink.rewards.grader.hedge_patterns import DENIAL
from seethink.rewards.grader.hedges import leaves_open
from seethink.rewards.grader.text import normalise

_ASKS = re.compile(r"(?:is|are|was|were|does|do|did|has|have|had|can|will|would|should)\b", re.I)
_FRAME = re.compile(
    r"\b(?:in|from|according to|based on|as shown in|on) (?:the|this) (?:image|picture|graph|figure|diagram|chart|"
    r"photo|plot|table|map)\b|\bcompared (?:to|with) [^,.]+",
    re.I,
)
_DROPPED = frozenset((
    "is", "are", "was", "were", "be", "do", "does", "did", "this", "that", "these", "those", "there", "indeed",
    "actually",
))  # fmt: skip
_PLACES = frozenset(("in", "on", "at", "of", "from"))
_KINDS = frozenset(
    ("integral", "function", "color", "colour", "value", "number", "point", "bar", "line", "shape", "angle")
)
_OPPOSITES = frozenset(
    frozenset(pair)
    for pair in (
        ("less", "more"), ("less", "greater"), ("fewer", "more"), ("smaller", "larger"), ("smaller", "greater"),
        ("smaller", "bigger"), ("lower", "higher"), ("shorter", "longer"), ("shorter", "taller"),
    )
)  # fmt: skip
_COMPARATIVES = frozenset(word for pair in _OPPOSITES for word in pair)
_MEASURES = frozenset(("have", "number", "value", "of"))
"""`A has a higher value than B` compares what `the value of A is higher than B` does."""
_RELATIONS = frozenset((
    "than", "of", "in", "on", "to", "from", "by", "with", "between", "left", "right", "above", "below", "before",
    "after", "like", "as", "less", "more", "greater", "not", "no", "nobody", "nothing", "none", "only", "half",
))  # fmt: skip
_TURNS = re.compile(r"\W*(?:no|wait|sorry|correction|oops|actually|on second thought|not so)\b", re.I)
_NEGATION = re.compile(r"n't\b|\b(?:not|never)\b", re.I)
_DESCRIBED = re.compile(
    r"(?!.*\b(?:would|could|may|might|if|unlike|than|like|or)\b)[^,?]* (?:is|are|was|were) [^,?]*,\s+"
    r"which (?:is|are|was|were) ([^,?]+)",
    re.I,
)
"""`This is 2x + 1, which is not a constant.`"""
_CONCLUDES = re.compile(r"(?:therefore|thus|hence|so|this means that|that means that)\b,?\s*", re.I)


def restated(question: str, prose: str) -> bool | None:
    """Whether a response says yes or no by saying the question again; None where its words are others.

    >>> restated("Is red darker than blue?", "Based on the image, red is not darker than blue.")
    False
    """
    asks, wanted = _asked(question)
    first, *rest = sentences(prose) or [""]
    found = _restated_in(first, asks, wanted, bool(rest))
    if found is None and rest and (concludes := _CONCLUDES.match(rest[-1])):
        found = _restated_in(rest[-1][concludes.end() :], asks, wanted, True)
    return None if any(leaves_open(part) or _TURNS.match(part) for part in rest) else found


def _restated_in(first: str, asks: str, wanted: list[str], goes_on: bool) -> bool | None:
    """What one sentence says to the question whose verb is `asks`; `goes_on`: it is not the only one."""
    said = " ".join(part for part in CLAUSE.split(REASON.split(first, maxsplit=1)[0]) if not SUBORDINATE.match(part))
    denied = 2 if "?" in first else len(_NEGATION.findall(said))
    words = _words_of(_NEGATION.sub(" ", said))
    if asks in words:  # the `would` of `Would it float?`
        words.remove(asks)
    described = None if goes_on else _DESCRIBED.fullmatch(first.rstrip(" ."))
    if described and denied == 0 and wanted == _words_of(_NEGATION.sub(" ", described[1])):
        denied = len(_NEGATION.findall(described[1]))
        return not denied if denied < 2 else None
    if not denied and (higher := _says_which_is_more(wanted, words)) is not None:
        denied = int(not higher)
    elif not denied and _says_the_opposite(wanted, words):
        denied = 1
    elif not wanted or denied > 1 or not _same_words(wanted, words):
        return None
    return not denied


def _says_which_is_more(asked: list[str], said: list[str]) -> bool | None:
    """Whether a comparison affirms the one that is asked: `B is less than A.` to `Is A less than B?` denies it.

    None where they compare other things, or in another respect.
    """
    one, other = _sides(asked), _sides(said)
    if one is None or other is None:
        return None
    (left, how, right), (more, said_how, less) = one, other
    same = how == said_how
    if not left or not right or not (same or frozenset((how, said_how)) in _OPPOSITES):
        return None
    if (more, less) == (left, right):
        return same
    if less == right and len(more) > 1 and left[: len(more)] == more:
        return same  # `the metal cars` for `the metal cars that are left of the bus`
    # `more A in the box than B`, and `more B in the box than A`
    turned = bool(less) and left[: len(less)] == less and more == right + left[len(less) :]
    return not same if turned else None


def _sides(words: list[str]) -> tuple[list[str], str, list[str]] | None:
    """(what is compared, how, with what) of a comparison; None where there is none, or more than one."""
    how = [place for place, word in enumerate(words) if word in _COMPARATIVES]
    if len(how) != 1 or words.count("than") != 1 or not how[0] < (than := words.index("than")):
        return None
    left = words[: how[0]] + words[how[0] + 1 : than]
    return [w for w in left if w not in _MEASURES], words[how[0]], [w for w in words[than:][1:] if w not in _MEASURES]


def _says_the_opposite(asked: list[str], said: list[str]) -> bool:
    """Whether the words are the same but for one: `X is more than Y.` to `Is X less than Y?`"""
    other = [{a, b} for a, b in zip(asked, said, strict=False) if a != b]
    return len(asked) == len(said) and len(other) == 1 and frozenset(other[0]) in _OPPOSITES


def _same_words(asked: list[str], said: list[str]) -> bool:
    """Whether the words are the same, but for a name in place of `it` and for one phrase such as `in the trough`."""
    if asked == said or (len(asked) <= 3 and sorted(asked) == sorted(said) and not set(asked) & _RELATIONS):
        return True
    more = len(said) - len(asked)
    if more == 0 and not set(asked) & _RELATIONS and any(said[i:] + said[:i] == asked for i in range(1, len(said))):
        return True  # `The tallest is Tom.` for `Is Tom the tallest?`
    if more == 1 and said[0] in _KINDS and said[1:] == asked:
        return True  # `the function f` for `f`
    if more == 1 and asked[-1].endswith("est") and said[:-1] == asked:
        return True  # `the smallest circle` for `the smallest`
    if asked[0] == "it" and 0 <= more <= 2 and said[more + 1 :] == asked[1:] and not set(said[: more + 1]) & _RELATIONS:
        return True
    return 2 <= more <= 4 and any(
        said[place] in _PLACES and said[:place] + said[place + more :] == asked for place in range(1, len(asked))
    )


def _asked(question: str) -> tuple[str, list[str]]:
    """The verb and the words of the last sentence that asks for yes or no.

    There are none where it denies, or asks for one of two things.
    """
    for sentence in reversed(re.split(r"(?<=[?.!])\s+|\n+", question.strip())):
        clauses = CLAUSE.split(sentence.replace(" ,", ","))
        for place, clause in enumerate(clauses):
            if verb := _ASKS.match(clause):
                first, *words = _words_of(verb.group()) or [""], *_words_of(" ".join(clauses[place:])[verb.end() :])
                return "".join(first), [] if "or" in words or _NEGATION.search(sentence) else words
    return "", []


def _words_of(text: str) -> list[str]:
    """The words of a question or its answer, in their order, without those that asking or answering adds."""
    said = normalise(_FRAME.sub(" ", text)).replace("?", " ").split()
    kept = ("have" if word in ("has", "had") else word for word in said if word not in _DROPPED)
    return [stem(word) for word in kept]


_LONE = re.compile(r"(\d[\d,]*(?:\.\d+)?)(?:-[a-z]+)?")
_STOP = frozenset((
    "is", "are", "was", "were", "be", "been", "of", "in", "on", "at", "with", "by", "for", "have", "has", "had", "it",
    "there", "that", "this", "these", "those", "which", "who", "to", "its", "their", "shown", "image", "year", "and",
    "following", "below", "above", "only", "exactly", "one", "letter", "labeled", "labelled",
    "yes", "ones",
))  # fmt: skip
_ASKING = frozenset(
    ("what", "which", "how", "many", "much", "who", "when", "where", "whose", "why", "a", "do", "doe", "if", "from")
)
MIN_SHARED = 0.5
"""Share of a question's words that a response needs to say the question again."""
MAX_WORDS = 60


_COMPARED = re.compile(
    r"(?:the )?(?P<more>.{1,60}?) (?:is|are|was|were|has|have|had) (?P<how>(?:[\w-]+ ){0,8}?"
    r"(?:more|[a-z]+er|less|fewer)(?: [\w-]+){0,8}?) than (?P<less>[^,.]{1,80})",
    re.I,
)


def compared(question: str, prose: str) -> str | None:
    """The thing that a response sets above another in the words of its question; None for any other response.

    >>> compared("Which is larger, the moon or the sun?", "The sun is larger than the moon.")
    'sun'
    """
    parts = sentences(prose) if question and " than " in prose else []
    found = {_compared_in(question, part) for part in parts} - {None}
    return (
        found.pop() if len(found) == 1 and not any(leaves_open(part) or _TURNS.match(part) for part in parts) else None
    )


def _compared_in(question: str, sentence: str) -> str | None:
    said = " ".join(part for part in CLAUSE.split(sentence) if not SUBORDINATE.match(part))
    match = _COMPARED.fullmatch(_FRAME.sub("", said).strip(" ."))
    if match is None or "?" in sentence or DENIAL.search(said) or UNSURE.search(match["more"] + " " + match["how"]):
        return None
    asked = {stem(word) for word in normalise(question).replace("?", " ").split()}
    how = {stem(word) for word in normalise(match["how"]).split()}
    return normalise(match["more"]).removeprefix("year ") if how <= asked else None


def added(question: str, prose: str, options: Sequence[str] = ()) -> str | None:
    """What a response adds to the words of its question: one number, or the one of the `options`; None for all else.

    >>> added("Which year had the most rain?", "The year 2019 had the most rain.")
    '2019'
    """
    spoken = _spoken(tuple(options))
    lower = prose.lower()
    if spoken and not any(all(word in lower for word in said.split()) for said in spoken) and not NUMBER.search(prose):
        return None
    parts = sentences(prose) if question else []
    if any(TOTALS.search(part) or leaves_open(part) or _TURNS.match(part) for part in parts[1:]):
        parts = parts[:1] if _comes_back(question, parts, spoken) else parts[-1:]
    found = {_added_in(question, part, spoken) for part in parts[:1] + parts[1:][-1:] if spoken or NUMBER.search(part)}
    found.discard(None)
    return found.pop() if len(found) == 1 and not says_another(prose, tuple(options)) else None


def _comes_back(question: str, parts: Sequence[str], spoken: Mapping[str, str]) -> bool:
    """Whether a number that the first sentence gives is what the reasons after it end on."""
    if spoken or any(leaves_open(part) or _TURNS.match(part) for part in parts[1:]):
        return False
    numbers = NUMBER.findall(parts[-1])
    return bool(numbers) and numbers[-1] == _added_in(question, parts[0], spoken)


@lru_cache(maxsize=CACHED)
def _spoken(options: tuple[str, ...]) -> dict[str, str]:
    """The options by what of them a sentence adds to a question."""
    if len(options) > MAX_OPTIONS:
        return {}
    said = {" ".join(word for word in plain_words(option).split() if word not in _STOP): option for option in options}
    return said if len(said) == len(options) else {}


def _added_in(question: str, sentence: str, spoken: Mapping[str, str]) -> str | None:
    if "?" in sentence:
        return None
    clauses = CLAUSE.split(REASON.split(sentence, maxsplit=1)[0])
    main = " ".join(part for part in clauses if not SUBORDINATE.match(part))
    if main.count(" ") < 2 and len(clauses) == 2:  # `Yes, in 5 years it was higher.`
        main = " ".join(clauses)
    said = plain_words(_FRAME.sub(" ", main).replace("%", " ")).split()
    asked = _asked_words(question)
    if not 3 <= len(said) <= MAX_WORDS or not 2 <= len(asked) <= MAX_WORDS:
        return None
    if not any(word in said for word in asked):
        return None
    blocks = SequenceMatcher(None, asked, said, autojunk=False).get_matching_blocks()
    shared = {place for block in blocks for place in range(block.b, block.b + block.size)}
    words = {said[place] for place in shared} | {word for word in said if _again(word, asked)}
    needed = [word for word in asked if word not in _STOP and word not in _ASKING]
    if sum(word in words for word in needed) < max(MIN_SHARED * len(needed), min(2, len(needed))):
        return None
    rest = [
        word for place, word in enumerate(said) if place not in shared and word not in _STOP and not _again(word, asked)
    ]
    if spoken and (option := spoken.get(" ".join(rest))):
        others = (other for other in spoken if spoken[other] != option)
        return option if not any(f" {other} " in f" {' '.join(said)} " for other in others) else None
    match = _LONE.fullmatch(rest[0]) if len(rest) == 1 else None
    return match[1] if match else None


@lru_cache(maxsize=CACHED)
def _asked_words(question: str) -> list[str]:
    """The words of the last sentence of a question."""
    last = re.split(r"(?<=[\w)][.?!])\s+|\n+", question.strip())[-1]
    return plain_words(_FRAME.sub(" ", last).replace("?", " ").replace("%", " ")).split()


def _again(word: str, asked: Sequence[str]) -> bool:
    """Whether a word is the question's once more; a number or a letter is an answer all the same."""
    return word in asked and len(word) > 1 and not word[0].isdigit()
