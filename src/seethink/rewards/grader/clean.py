"""Brings the many ways of typing one answer to one spelling, before anything is read from it."""

from __future__ import annotations

import re
import unicodedata

CACHED = 1024
"""Entries in each of the grader's caches. The responses of a group mostly state the same few answers; a larger cache
would grow for hours, by a kilobyte per entry."""
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_INVISIBLE = dict.fromkeys(
    [
        *range(0x09),
        *range(0x0B, 0x0D),
        *range(0x0E, 0x20),
        0x7F,
        0xAD,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x206A),
        0xFEFF,
        *range(0xD800, 0xE000),
    ]
)
_PLAIN: dict[int, int | str | None] = {
    **_FULL_WIDTH,
    **_INVISIBLE,
    0x3000: 0x20,
    0xA0: 0x20,
    0x2009: 0x20,
    0x202F: 0x20,
}
_PLAIN.update({0x2212: 0x2D, 0x2013: 0x2D, 0x2010: 0x2D, 0x2011: 0x2D})  # dashes that stand for minus
_PLAIN.update({0x2018: 0x27, 0x2019: 0x27, 0x2032: 0x27, 0x201C: 0x22, 0x201D: 0x22})

_PLAIN.update(str.maketrans("。、・【】〔〕「」『』《》〜", '.,,[][]""""""~'))
_PLAIN.update({0xBA: 0xB0, 0x2DA: 0xB0})  # two rings that stand for a degree sign
_SQUARED = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0x3380, 0x33E0), 0x2103, 0x2109)}
"""Units that are one character, such as ㎝ and ℃."""

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda",
    "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta",
    "Ω": "Omega",
}  # fmt: skip
_MATHS = {
    "×": r"\times ", "÷": "/", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "√": r"\sqrt ", "∞": r"\infty ",
    "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "°": r"^\circ ",
    "…": r"\ldots ", "∠": r"\angle ", "∖": r"\setminus ", "⁄": "/",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
}  # fmt: skip
_TO_LATEX = str.maketrans({**{letter: f"\\{name} " for letter, name in _GREEK.items()}, **_MATHS})
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_SPACE = re.compile(r"(?<!\\)\\[,;:!> ]|~|\\q?quad|\\(?:displaystyle|textstyle|limits|left|right)(?![a-zA-Z])"
                    r"|\\[bB]igg?[lr]?(?![a-zA-Z])")  # fmt: skip
_OPEN_SYSTEM = re.compile(r"\\left\s*(?:\\\{|\.)\s*(?=\\begin)|\\right\s*\.")
_THOUSANDS_DRESS = re.compile(r"(?<=\d)(?:\{,\}|,\s*\\!|\\,)\s*(?=\d{3}(?!\d))")
_DECIMAL_DRESS = re.compile(r"(?<=\d)\{,\}(?=(?:\d{1,2}|\d{4,40})(?!\d|\{,\}))")
_DEGREE = re.compile(r"\s*\*?\s*\\degrees?(?![a-zA-Z])")
_LETTER_DEGREE = re.compile(
    r"(?<=[\d}])\s?\^\s?(?:o(?![A-Za-z])|\{\s?o\s?\}|\\(?:text|mathrm)\s?\{o\}|\{\s?\\(?:text|mathrm)\s?\{o\}\s?\}|\{\s?\\rm\s?o\s?\})"
)
"""An o that was raised to stand for a degree sign."""
_TIMES_TEN = re.compile(r"(?<=\d)\s?[xX]\s?10\s?\^")
_ANGLE_BRACKETS = re.compile(r"\\([lr])angle(?![a-zA-Z])")
_DELIMITERS = re.compile(r"\$|\\[()\[\]]")
_SPEECH = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|operatorname\*?|mathsf|rm)\s*\{((?:[^{}]|\^\{[^{}]*\})*)\}"
)
_BLANKS = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MISREAD_DEGREE = re.compile(r"Â°|(?<=\d)\s?(?:掳|∘)")
"""A degree sign that was written in one encoding and read in another."""


def plain(text: str) -> str:
    """Full-width to ASCII, one minus sign, and none of the characters that only change how text looks."""
    if text.isascii():
        return text.translate(_PLAIN) if _CONTROL.search(text) else text
    return _MISREAD_DEGREE.sub("°", text.translate(_PLAIN))


def latex(text: str) -> str:
    """Unicode mathematics as LaTeX, without math delimiters and spacing commands."""
    text = plain(text)
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+", lambda m: "^{" + m.group().translate(_RAISED) + "}", text)
        text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda m: "_{" + m.group().translate(_LOWERED) + "}", text)
        text = text.translate(_SQUARED).translate(_TO_LATEX)
    if "^" in text:
        text = _LETTER_DEGREE.sub(r"^\\circ ", text)
    text = _TIMES_TEN.sub(r" \\times 10^", text)
    if "\\" in text or "$" in text or "~" in text or "{,}" in text:
        text = _DEGREE.sub(r"^\\circ ", text)
        text = _THOUSANDS_DRESS.sub(",", _OPEN_SYSTEM.sub(" ", text))
        text = _DECIMAL_DRESS.sub(".", text)
        text = text.replace(r"\$", " dollars ") if text.count("$") > 1 else text.replace(r"\$", "$")
        text = _currency_and_delimiters(text)
        text = _SPACE.sub(" ", _BOX.sub(" ", text))
        text = _ANGLE_BRACKETS.sub(lambda m: "(" if m[1] == "l" else ")", text)
    return _BLANKS.sub(" ", text).strip()


def _currency_and_delimiters(text: str) -> str:
    """A lone `$` beside a number is money; pairs of `$` and the bracket forms are math delimiters."""
    if text.count("$") == 1 and re.search(r"\$\s*[-\d.]|\d\s*\$", text):
        return re.sub(r"\\[()\[\]]", " ", text.replace("$", " dollars "))
    return _DELIMITERS.sub(" ", text)


def words(text: str) -> str:
    """LaTeX text commands replaced by their text: `\\text{odd }n` -> `odd n`."""
    before = None
    while before != text and "\\" in text:
        before, text = text, _SPEECH.sub(r"\1", text)
    return text
