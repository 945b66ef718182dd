"""Numbers with units. All conversions are data in one table, and different dimensions never compare equal."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from seethink.rewards.grader.clean import words
from seethink.rewards.grader.tokens import MAX_CHARS
from seethink.rewards.grader.unit_table import COUNTED, TABLE


@dataclass(frozen=True, slots=True)
class Unit:
    """`factor` base units of `dimension`. A word that is in no table is its own dimension.

    Example: `Unit(Fraction(5, 18), (("m", 1), ("s", -1)), known=True)` for km/h
    """

    factor: Fraction
    dimension: tuple[tuple[str, int], ...]
    known: bool = True


DEGREE = Unit(Fraction(1), (("degree", 1),))
PERCENT = Unit(Fraction(1, 100), (("percent", 1),))
_PERCENT_WORDS = re.compile(r"\s*(?:\\?%|per ?cent(?:age)?(?: points?)?|pct\.?)\.?$", re.I)
_MONEY = {"$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen"}


_LETTER = "A-Za-zµ\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
_WORD = rf"[{_LETTER}]+(?:\s*\^\s*\{{?\s*-?\d\s*\}}?|(?<=[a-z])[23](?![\d.]))?"
_SUFFIX = re.compile(
    rf"(?<![\\{_LETTER}])(?P<unit>(?:(?:square|cubic|sq\.?|cu\.?)\s+)?"
    + _WORD
    + r"(?:\s*(?:/|\*|\\cdot|·|\bper\b)\s*(?:square\s+)?"
    + _WORD
    + r"|\s+"
    + _WORD
    + r"){0,4})\.?$"
)
_PIECE = re.compile(rf"(/|\bper\b)|([{_LETTER}]+)(?:\s*\^\s*\{{?\s*(-?\d)\s*\}}?|([23]))?")
_TEMPERATURE = re.compile(r"\bdegrees? ([CF])(?:elsius|ahrenheit)?\b")
_AMOUNT = re.compile(r"(-?)\s*(?:([$€£¥])|dollars?)\s*(?=[\d.\\])")
_ENDS_A_NUMBER = re.compile(r"[\d})\]!]$|\\pi$")
_TRIGONOMETRY = re.compile(r"(?:sin|cos|tan|cot|sec|csc)\b")
_HAS_UNIT = re.compile(rf"[{_LETTER}$€£¥%°)}}]\.?\s*$|[A-Za-zµ}}]\s?\^?\s?\{{?-?\d\}}?\.?\s*$|[$€£¥]|dollars")
_BELOW = re.compile(r"(?<=[A-Za-z])\s*/\s*\(([A-Za-z][A-Za-z\s\\*^\d{}-]*)\)")
_GLUED = re.compile(r"(?<=[\d}])(?=\\(?:text|mathrm|rm)\s*\{)")
_MICRO = re.compile(r"\\mu\s*\\(?:text|mathrm|rm)\s*\{\s*")
_PART = r"\s*\{\s*([A-Za-zµ](?:[^{}]|\^\{-?\d\}){0,40})\}"
_RATIO = re.compile(rf"\s?\\[dtc]?frac{_PART}{_PART}$")
_UPRIGHT = re.compile(r"frac\s*\{\s*\\(?:text|mathrm|rm)\b")
_NO_UNITS = frozenset((
    "is", "are", "was", "were", "be", "been", "being", "not", "no", "nor", "never", "neither", "or", "and", "but",
    "cannot", "can", "may", "might", "could", "would", "should", "will", "wrong", "incorrect", "false", "right",
    "correct", "true", "if", "then", "so", "because", "since", "as", "than", "also", "maybe", "perhaps",
    "possibly", "it", "they", "this", "that", "which", "who", "isn", "aren", "wasn", "don", "doesn", "rather",
    "instead", "hardly", "barely", "almost", "nearly", "has", "have", "had",
    "fail", "fails", "work", "works", "hold", "holds", "fit", "fits",
))  # fmt: skip
"""Words that end a statement about a number rather than naming its unit."""
_SPOKEN = {"平方": " square ", "立方": " cubic ", "每": "/", "百分点": "%"}


def split_unit(text: str) -> tuple[str, Unit | None]:
    """`12 \\text{ cm}^2` -> ("12", square centimetres). The number comes back as it was written."""
    if not _HAS_UNIT.search(text) or len(text) > MAX_CHARS:
        return text, None
    plain = _MICRO.sub(r"\\mathrm{\\mu ", _GLUED.sub(" ", text)) if "\\" in text else text
    spoken = " ".join(words(plain).replace(r"^\circ", " degree ").replace(r"^{\circ}", " degree ").split()).strip(" .")
    spoken = _BELOW.sub(r"/\1", spoken)  # J/(kg K)
    if not spoken.isascii():
        for word, said in _SPOKEN.items():
            spoken = spoken.replace(word, said)
    spoken = _TEMPERATURE.sub(r"degree\1", spoken).replace(r"\mu ", "u").replace("\\Omega", "Omega")
    percent = _PERCENT_WORDS.search(spoken)
    if percent:
        return spoken[: percent.start()].strip(), PERCENT
    money = _AMOUNT.match(spoken)
    if money:
        name = _MONEY.get(money[2] or "$", "dollar")
        rest = spoken[money.end() :]
        rest = re.sub(r"\s*(?:dollars?|USD|euros?)$", "", rest)
        return money[1] + rest, _named(name)
    ratio = _RATIO.search(spoken)
    if ratio and (spoken[ratio.start()] == " " or _UPRIGHT.search(text)):
        unit = read_unit(f"{ratio[1]}/{ratio[2]}")
        if unit is not None and unit.known and _ENDS_A_NUMBER.search(spoken[: ratio.start()]):
            return spoken[: ratio.start()], unit
    if spoken[-1:] in ("€", "£", "¥") and spoken[:-1].rstrip()[-1:].isdigit():
        return spoken[:-1].rstrip(), _named(_MONEY[spoken[-1]])
    suffix = _SUFFIX.search(spoken[-80:])
    if not suffix:
        return text, None
    start = max(0, len(spoken) - 80) + suffix.start("unit")
    before = spoken[:start].rstrip()
    if not before or _TRIGONOMETRY.search(before) or not _ENDS_A_NUMBER.search(before):
        return text, None
    unit = read_unit(suffix["unit"])
    return (before, unit) if unit is not None else (text, None)


def _named(name: str) -> Unit:
    return read_unit(name) or Unit(Fraction(1), ((name, 1),), known=False)


def read_unit(text: str) -> Unit | None:
    """`km/h`, `square metres`, `m s^-2`; unknown words are kept as a label."""
    factor, powers, sign, scale, known = Fraction(1), Counter[str](), 1, 1, True
    for divide, name, power, glued in _PIECE.findall(text.strip()):
        if divide:
            sign = -1
            continue
        if name.lower() in ("square", "sq", "cubic", "cu"):
            scale = 3 if name.lower().startswith("cu") else 2
            continue
        if name == "cdot":
            continue
        exponent = sign * int(power or glued or 1) * scale
        scale = 1
        if name == "ms" and exponent < 0 and not powers:  # m s^-1, written without a space
            powers["m"] += 1
            name = "s"
        entry = _lookup(name)
        if entry is None:
            label = _singular(name.lower())
            if label in _NO_UNITS or label[0] in "不错没非无":
                return None
            if label in COUNTED:
                continue
            if (len(name) == 1 and name.isascii()) or label == "pi":
                return None  # a variable, not a unit
            powers[label] += exponent
            known = False
            continue
        factor *= entry[0] ** exponent
        for dimension, each in entry[1].items():
            powers[dimension] += each * exponent
    return Unit(factor, tuple(sorted((name, power) for name, power in powers.items() if power)), known)


def _lookup(name: str) -> tuple[Fraction, Counter[str]] | None:
    name = name.replace("µ", "u")
    for spelling in (name, _singular(name), name.lower(), _singular(name.lower())):
        if spelling in TABLE and (len(name) > 2 or spelling == name):
            return TABLE[spelling]
    return None


def _singular(name: str) -> str:
    return name[:-1] if len(name) > 2 and name.endswith("s") and not name.endswith("ss") else name


def comparable(gold: Unit, found: Unit) -> bool:
    """Whether two units measure the same thing. Words beyond the unit, as in `10 m long`, are ignored."""
    if gold.known and found.known:
        return gold.dimension == found.dimension
    fewer, more = sorted((gold.dimension, found.dimension), key=len)
    return set(fewer) <= set(more)
