"""Numbers with units. All conversions are data in one table, and different dimensions never compare equal."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from seethink.rewards.grader.clean import words
from seethink.rewards.grader.tokens import MAX_CHARS

_PREFIXES = {"n": -9, "u": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9}
_SI: dict[str, tuple[int | Fraction, str, str]] = {  # symbol: (factor to base units, dimension, prefixes in use)
    "m": (1, "m", "numcdk"), "g": (1, "g", "umk"), "s": (1, "s", "num"), "A": (1, "A", "umk"), "K": (1, "K", ""),
    "mol": (1, "mol", "m"), "L": (Fraction(1, 1000), "m3", "mcd"), "l": (Fraction(1, 1000), "m3", "mcd"),
    "N": (1000, "g m s-2", "kmM"), "J": (1000, "g m2 s-2", "kmM"), "W": (1000, "g m2 s-3", "kmMG"),
    "Pa": (1000, "g m-1 s-2", "kM"), "V": (1000, "g m2 s-3 A-1", "kmM"), "C": (1, "s A", "um"),
    "Hz": (1, "s-1", "kMG"), "F": (Fraction(1, 1000), "g-1 m-2 s4 A2", "num"), "T": (1000, "g s-2 A-1", "m"),
    "H": (1000, "g m2 s-2 A-2", "um"), "eV": (Fraction("1.602176634e-16"), "g m2 s-2", "kMG"),
    "cal": (4184, "g m2 s-2", "k"), "bar": (Fraction(10) ** 8, "g m-1 s-2", "m"), "Ohm": (1000, "g m2 s-3 A-2", "kM"),
    "ohm": (1000, "g m2 s-3 A-2", "kM"), "Omega": (1000, "g m2 s-3 A-2", "kM"),
}  # fmt: skip
_OTHER: dict[str, tuple[int | Fraction, str]] = {  # the words for one unit: (factor, dimension)
    "meter metre": (1, "m"), "kilometer kilometre": (1000, "m"), "centimeter centimetre": (Fraction(1, 100), "m"),
    "millimeter millimetre": (Fraction(1, 1000), "m"), "nanometer": (Fraction(1, 10**9), "m"),
    "inch inche in": (Fraction("0.0254"), "m"), "foot feet ft": (Fraction("0.3048"), "m"),
    "yard yd": (Fraction("0.9144"), "m"), "mile mi": (Fraction("1609.344"), "m"),
    "gram gm": (1, "g"), "kilogram kilo kg": (1000, "g"), "milligram": (Fraction(1, 1000), "g"),
    "tonne": (10**6, "g"), "pound lb": (Fraction("453.59237"), "g"), "ounce oz": (Fraction("28.349523125"), "g"),
    "ton": (1, "ton"), "second sec": (1, "s"), "minute min": (60, "s"), "hour hr h": (3600, "s"),
    "day": (86400, "s"), "week wk": (604800, "s"), "month": (1, "month"), "year yr": (12, "month"),
    "liter litre": (Fraction(1, 1000), "m3"), "milliliter millilitre": (Fraction(1, 10**6), "m3"),
    "gallon gal": (Fraction("0.003785411784"), "m3"), "mph": (Fraction("0.44704"), "m s-1"),
    "kph kmh kmph": (Fraction(5, 18), "m s-1"), "acre": (Fraction("4046.8564224"), "m2"), "hectare ha": (10000, "m2"),
    "newton": (1000, "g m s-2"), "joule": (1000, "g m2 s-2"), "watt": (1000, "g m2 s-3"),
    "volt": (1000, "g m2 s-3 A-1"),
    "ampere amp": (1, "A"), "pascal": (1000, "g m-1 s-2"), "hertz": (1, "s-1"), "kelvin": (1, "K"), "mole": (1, "mol"),
    "calorie": (4184, "g m2 s-2"), "kilojoule": (10**6, "g m2 s-2"), "kilowatt": (10**6, "g m2 s-3"),
    "atm": (101325000, "g m-1 s-2"), "dollar usd buck": (1, "dollar"), "cent": (Fraction(1, 100), "dollar"),
    "euro eur": (1, "euro"), "yuan rmb cny": (1, "yuan"), "rupee": (1, "rupee"), "yen": (1, "yen"),
    "degree deg": (1, "degree"), "radian rad": (Fraction("57.29577951308232087679815"), "degree"),
    "degreec degc celsius": (1, "celsius"), "degreef degf fahrenheit": (1, "fahrenheit"),
}  # fmt: skip
_COUNTED = frozenset(("unit", "times", "each", "people", "item"))
"""Words that add nothing to the number."""


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
_PERCENT_WORDS = re.compile(r"\s*(?:\\?%|per ?cent|pct\.?)\.?$", re.I)
_MONEY = {"$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yen"}


def _dimension(text: str) -> Counter[str]:
    powers: Counter[str] = Counter()
    for part in text.split():
        name, power = re.fullmatch(r"([A-Za-z ]+?)(-?\d*)", part).groups()  # type: ignore[union-attr]
        powers[name] += int(power or 1)
    return powers


def _table() -> dict[str, tuple[Fraction, Counter[str]]]:
    table = {}
    for symbol, (factor, dimension, prefixes) in _SI.items():
        table[symbol] = (Fraction(factor), _dimension(dimension))
        for prefix in prefixes:
            table[prefix + symbol] = (Fraction(factor) * Fraction(10) ** _PREFIXES[prefix], _dimension(dimension))
    for names, (factor, dimension) in _OTHER.items():
        for name in names.split():
            table[name] = (Fraction(factor), _dimension(dimension))
    return table


TABLE = _table()

_WORD = r"[A-Za-zµ]+(?:\s*\^\s*\{?\s*-?\d\s*\}?|(?<=[a-z])[23](?![\d.]))?"
_SUFFIX = re.compile(
    r"(?<![\\A-Za-z])(?P<unit>(?:(?:square|cubic|sq\.?|cu\.?)\s+)?"
    + _WORD
    + r"(?:\s*(?:/|\*|\\cdot|·|\bper\b)\s*(?:square\s+)?"
    + _WORD
    + r"|\s+"
    + _WORD
    + r"){0,4})\.?$"
)
_PIECE = re.compile(r"(/|\bper\b)|([A-Za-zµ]+)(?:\s*\^\s*\{?\s*(-?\d)\s*\}?|([23]))?")
_TRIGONOMETRY = re.compile(r"(?:sin|cos|tan|cot|sec|csc)\b")
_HAS_UNIT = re.compile(r"[A-Za-zµ$€£¥%°)}]\.?\s*$|[A-Za-zµ}]\s?\^?\s?\{?-?\d\}?\.?\s*$|[$€£¥]|dollars")


def split_unit(text: str) -> tuple[str, Unit | None]:
    """`12 \\text{ cm}^2` -> ("12", square centimetres). The number comes back as it was written."""
    if not _HAS_UNIT.search(text) or len(text) > MAX_CHARS:
        return text, None
    spoken = re.sub(r"\s+", " ", words(text).replace(r"^\circ", " degree ").replace(r"^{\circ}", " degree ")).strip(
        " ."
    )
    spoken = (
        re.sub(r"\bdegrees? ([CF])(?:elsius|ahrenheit)?\b", r"degree\1", spoken)
        .replace(r"\mu ", "u")
        .replace("\\Omega", "Omega")
    )
    percent = _PERCENT_WORDS.search(spoken)
    if percent:
        return spoken[: percent.start()].strip(), PERCENT
    money = re.match(r"(-?)\s*(?:([$€£¥])|dollars?)\s*(?=[\d.\\])", spoken)
    if money:
        name = _MONEY.get(money[2] or "$", "dollar")
        rest = spoken[money.end() :]
        rest = re.sub(r"\s*(?:dollars?|USD|euros?)$", "", rest)
        return money[1] + rest, _named(name)
    suffix = _SUFFIX.search(spoken[-80:])
    if not suffix:
        return text, None
    start = max(0, len(spoken) - 80) + suffix.start("unit")
    before = spoken[:start].rstrip()
    if not before or _TRIGONOMETRY.search(before) or not re.search(r"[\d})\]!]$|\\pi$", before):
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
        entry = _lookup(name)
        if entry is None:
            label = _singular(name.lower())
            if len(name) == 1 or label == "pi":
                return None  # a variable, not a unit
            if label not in _COUNTED:
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
