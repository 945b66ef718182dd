"""Chinese numerals, shares and scales as figures: `三` is 3, `百分之二十八` is 28%, `三分之二` is 2/3."""

from __future__ import annotations

import re

from seethink.rewards.grader.unit_table import COUNTED, TABLE

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_SAID = "".join(_DIGITS) + "".join(_SCALES)
_NUMBER = rf"(?:\\d+(?:\\.\\d+)?|[{_SAID}]+)".replace("\\\\", "\\")
_SHARE = re.compile(rf"({_NUMBER})分之({_NUMBER})")
_SCALED = re.compile(r"(\d+(?:\.\d+)?)\s?([万萬亿億])(?![\u4e00-\u9fff])")
_WHOLE = re.compile(rf"([{_SAID}]+)([^\x00-\x7f]*)")


def in_figures(text: str) -> str:
    """A text with its Chinese numerals as figures; words that merely begin with one stay as they are.

    >>> in_figures("百分之28"), in_figures("二十八个"), in_figures("三角形")
    ('28%', '28个', '三角形')
    """
    share = _SHARE.fullmatch(text)
    if share:
        below, above = (part if part[0].isdigit() else str(_value(part)) for part in share.groups())
        return f"{above}%" if below == "100" else f"{above}/{below}"
    scaled = _SCALED.fullmatch(text)
    if scaled:
        return rf"{scaled[1]} \times 10^{4 if scaled[2] in '万萬' else 8}"
    whole = _WHOLE.fullmatch(text)
    if (
        whole
        and (not whole[2] or whole[2] in COUNTED or whole[2] in TABLE)
        and set(whole[1]) & _DIGITS.keys() | {"十"} & set(text)
    ):
        return f"{_value(whole[1])}{whole[2]}"
    return text


def _value(said: str) -> int:
    if not set(said) & _SCALES.keys():
        return int("".join(str(_DIGITS[char]) for char in said))
    total = section = digit = 0
    for char in said:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif _SCALES[char] < 10**4:
            section += (digit or 1) * _SCALES[char]
            digit = 0
        else:
            total = (total + section + digit) * _SCALES[char]
            section = digit = 0
    return total + section + digit
