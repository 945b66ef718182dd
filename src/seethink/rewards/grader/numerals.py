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


_STATES = re.compile(
    r"(?:等于|约为|約為|为|為|是|有|得|共)\s*(?:大约|大約|约|約)?\s*(?=[-\d.\\$零一二三四五六七八九十百千两兩])"
)
_CHANGED = re.compile(
    r"(?:不|非|没|沒|无|無|未|别|还|還|或|可能|至少|至多|最多|最少|大于|大於|小于|小於|超过|超過|不足|接近|除了?|如果|假设|若|"
    r"倍|一半|分之|多|少)[^,.;\d]{0,3}$|(?:如果|假设|假設|倘若)[^.;]*$"
)
"""Before what a sentence states: it is denied, changed or left open."""


def stated_in_chinese(text: str) -> tuple[str, str] | None:
    """What the last `是` or `为` of a text states, and the words before it; None where they change it.

    >>> stated_in_chinese("所以x的值为12.5"), stated_in_chinese("x不是12")
    (('12.5', '所以x的值'), None)
    """
    found = list(_STATES.finditer(text))
    if not found or _CHANGED.search(text[: found[-1].start()]):
        return None
    return text[found[-1].end() :], text[: found[-1].start()]


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
