"""Answers in words: case, articles, punctuation and number words do not matter; every other word does."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from seethink.rewards.grader.clean import CACHED, latex, words
from seethink.rewards.grader.hedge_patterns import DENIED_AFTER, SETTLES
from seethink.rewards.grader.hedges import first_fragment, last_claim, leaves_open, restatements

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
NUMBER_WORDS = tuple(_NUMBERS)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 10**9}

_COMMANDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit|operatorname)(?![a-zA-Z])|[{}]|\\(?=[%$#&_{}])")
_EDGES = ' \t\n.,;:!?"`*_'
_PUNCTUATION = re.compile(r"[\"`*!?;…“”]|[.,:](?=\s|$)|(?<!\w)'|'(?!\w)")
_INITIALS = re.compile(r"\b([a-z])\.(?=[a-z]\b|\s|$)")
_SUBSCRIPT = re.compile(r"_(?=\d)")
REASON = re.compile(r",?\s+(?:because|since|which|due to|as it)\b")
_FIRST = re.compile(r"(?<=[\w)])[.!]\s+(?=[A-Z])")
_ARTICLES = re.compile(r"\b(?:the|an|a)\s+(?=\S)")
_DASH = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})|\s-\s|\s+|_")
_COPULA = re.compile(
    r"\b(?:is|are|was|were|will|would be|be|being|called|named|known as|becomes?|equals?|by"
    r"|:|(?<=it)'s|(?<=that)'s|(?<=answer)'s)(?=\s)",
    re.I,
)
_HEDGE = re.compile(r"\b(?:or|either|maybe|perhaps)\b", re.I)
_TRUTH = {
    **dict.fromkeys(
        ("yes", "true", "是", "是的", "对", "對", "正确", "正確", "はい", "예", "네", "sí", "oui", "да"), True
    ),
    **dict.fromkeys(("no", "false", "否", "不是", "错", "错误", "錯誤", "いいえ", "아니요", "nein", "нет"), False),
}
_OTHER_WORD = re.compile(
    r"(?:^|[.!?;,/]\s*|\b(?:and|or|but|maybe|perhaps|actually|wait|then)\W+)(yes|no|true|false)\b"
    r"(?=\W*(?:$|[.,;!?/]|\b(?:and|or|but)\b))",
    re.I,
)
_ADJECTIVE = re.compile(r"(?:er|est|ed|ing|al|ous|ive|ic|able|ible|ful|less|ent|ant|ary|ly|so|true|correct|right)$")
_SURELY = re.compile(
    r"^(?:definitely|certainly|clearly|obviously|simply|surely|absolutely)\s+(?=(?:yes|no|true|false)\b)", re.I
)
_YES_NO = re.compile(r"(yes|no|true|false)(?=\s*(?:[,.!;:–—-]|$)|\s+(?:it|they|he|she|there|this|that) )", re.I)


@lru_cache(maxsize=CACHED)
def normalise(text: str) -> str:
    """One spelling for answers that say the same."""
    said = _COMMANDS.sub("", words(latex(text))).strip(_EDGES)
    folded = said.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFKD", said).casefold()
        folded = "".join(c for c in folded if not unicodedata.combining(c))
    folded = folded.replace("&", " and ")
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


_OPENING = re.compile(
    r"^(?:(?:i\s(?:think|believe|guess|would say|choose|pick|select|conclude)(?:\sthat)?|clearly|obviously|so|thus|"
    r"hence|therefore|then|finally|in conclusion|conclusion|result|verdict|it'?s|that'?s|it is)\b[,:]?\s+)+",
    re.I,
)
_CLOSING = re.compile(
    r"\s*(?:\((?:see|as|shown|from|cf\.?|because|since|by)\b[^()]{0,80}\)|,?\s(?:is|are|was)\s(?:clearly |indeed )?"
    r"(?:the\s)?(?:(?:correct|right|final|best)\s)?(?:answer|option|choice|one|correct|right|true)(?: answer)?)"
    r"[\s.!]*$",
    re.I,
)


def core(line: str) -> str:
    """`So it's red.` and `red is the answer` as the red that they state."""
    return _CLOSING.sub("", _OPENING.sub("", line.strip(), count=1), count=1).strip() or line


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
    if normalise(gold) not in normalise(line):
        return False
    last = last_claim(sentence(line))
    if last is None or _HEDGE.search(last):
        return False
    tails = [last[match.end() :] for match in _COPULA.finditer(last)]
    if not any(same_text(gold, tail) for tail in tails):
        return False
    fragment = first_fragment(line)  # the `Cat` of `Cat. It is dog`
    return (fragment is None or same_text(gold, fragment)) and not _says_it_is_another(gold, line)


def _says_it_is_another(gold: str, words_around: str) -> bool:
    """`..., because it is dog`."""
    return any(is_another(said) and not same_text(gold, said) for said in restatements(words_around))


def is_another(said: str) -> bool:
    """Whether `it is ...` names a thing rather than what the thing is like."""
    spoken = said.split()
    return (len(spoken) == 1 and not _ADJECTIVE.search(said)) or (
        1 < len(spoken) <= 4 and all(word[0].isupper() for word in spoken)
    )


def first_sentence_is(gold: str, line: str) -> bool:
    """`Paris. It lies on the Seine.` states Paris, and so does `Paris, because ...`; what follows must not object."""
    for ending in (_FIRST, REASON):
        first, *rest = ending.split(line.strip(), maxsplit=1)
        if same_text(gold, first):
            after = rest[0] if rest else ""
            return not (
                leaves_open(after)
                or SETTLES.match(after)
                or DENIED_AFTER.search(after)
                or _says_it_is_another(gold, after)
            )
    return False


def truth(text: str) -> bool | None:
    """True for yes and its kin, False for no, None for any other gold."""
    return _TRUTH.get(normalise(text))


def yes_or_no(gold: str, line: str) -> bool | None:
    """For a gold of yes, no, true or false: whether the line says the same, alone or as its first word, and no more."""
    wanted = truth(gold)
    if wanted is None:
        return None
    alone = truth(line)
    if alone is not None:
        return alone is wanted
    said = (words(latex(line)) if "\\" in line or "$" in line else line).strip(_EDGES + "({")
    said = _SURELY.sub("", said)
    match = _YES_NO.match(said)
    if match is None or _TRUTH[match[1].casefold()] is not wanted:
        return False
    rest = said[match.end() :]
    others = {_TRUTH[word.casefold()] for word in _OTHER_WORD.findall(rest)}
    return others <= {wanted} and not leaves_open(rest)
