"""The units that the grader knows, as data: symbols, words, and the Chinese, Japanese and Korean words for them."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

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
    "millimeter millimetre": (Fraction(1, 1000), "m"), "nanometer nanometre": (Fraction(1, 10**9), "m"),
    "micrometer micrometre micron": (Fraction(1, 10**6), "m"), "decimeter decimetre": (Fraction(1, 10), "m"),
    "microgram": (Fraction(1, 10**6), "g"), "millisecond": (Fraction(1, 1000), "s"),
    "microsecond": (Fraction(1, 10**6), "s"), "nanosecond": (Fraction(1, 10**9), "s"),
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
_EAST_ASIAN: dict[str, tuple[int | Fraction, str]] = {
    "米 公尺 メートル 미터": (1, "m"),
    "千米 公里 キロメートル 킬로미터": (1000, "m"),
    "分米": (Fraction(1, 10), "m"),
    "厘米 公分 センチメートル 센티미터": (Fraction(1, 100), "m"),
    "毫米 ミリメートル 밀리미터": (Fraction(1, 1000), "m"),
    "微米": (Fraction(1, 10**6), "m"),
    "纳米": (Fraction(1, 10**9), "m"),
    "克 公克 グラム 그램": (1, "g"),
    "千克 公斤 キログラム 킬로그램": (1000, "g"),
    "毫克": (Fraction(1, 1000), "g"),
    "吨": (10**6, "g"),
    "秒 초": (1, "s"),
    "分钟 分鐘": (60, "s"),
    "小时 小時 时 時 時間 시간": (3600, "s"),
    "天 日": (86400, "s"),
    "周 星期": (604800, "s"),
    "个月 個月 か月": (1, "month"),
    "年 년": (12, "month"),
    "升 公升 リットル 리터": (Fraction(1, 1000), "m3"),
    "毫升 ミリリットル 밀리리터": (Fraction(1, 10**6), "m3"),
    "牛 牛顿": (1000, "g m s-2"),
    "焦 焦耳": (1000, "g m2 s-2"),
    "千焦": (10**6, "g m2 s-2"),
    "瓦 瓦特": (1000, "g m2 s-3"),
    "千瓦": (10**6, "g m2 s-3"),
    "伏 伏特": (1000, "g m2 s-3 A-1"),
    "安 安培": (1, "A"),
    "欧 欧姆": (1000, "g m2 s-3 A-2"),
    "帕 帕斯卡": (1000, "g m-1 s-2"),
    "赫兹": (1, "s-1"),
    "摩尔": (1, "mol"),
    "元 块": (1, "yuan"),
    "角": (Fraction(1, 10), "yuan"),
    "円": (1, "yen"),
    "원": (1, "won"),
    "度 도": (1, "degree"),
    "弧度": (Fraction("57.29577951308232087679815"), "degree"),
    "摄氏度": (1, "celsius"),
    "华氏度": (1, "fahrenheit"),
}

COUNTED = frozenset(("unit", "times", "each", "people", "item", *"个個只隻条張张件本名位人次倍つ匹枚台개명마리"))
"""Words that add nothing to the number."""


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
    for names, (factor, dimension) in (_OTHER | _EAST_ASIAN).items():
        for name in names.split():
            table[name] = (Fraction(factor), _dimension(dimension))
    return table


TABLE = _table()
