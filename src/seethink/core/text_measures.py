"""Measures of a response's text that move when a policy degenerates.

None of them depends on a language: repeated n-grams, how far zlib compresses the text, and letters of scripts that the
question does not use.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np

from seethink.core.denials import hallucinations
from seethink.core.types import Completion, Sample

FORMULAE = frozenset({"LATIN", "GREEK"})
"""Scripts of mathematics and of the think tags, which belong in every language."""

LEAST_WORDS = 8
"""Words of a sentence that is in some language; a shorter one may be a formula or a heading."""
_FORMULA = re.compile(r"\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-z]+|</?think>", re.I)
_SENTENCE_END = re.compile(r"[\n。！？]|[.!?](?=\s)")
_LETTERS = re.compile(r"[^\W\d_]+")
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA")
_KANA = 0.1
"""Share of a Japanese sentence's characters that are kana, at least."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


def words(text: str) -> list[str]:
    """Words in lower case; every Chinese, Japanese or Korean character is one.

    >>> words("The sum, of 3 角?")
    ['the', 'sum', 'of', '3', '角']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def repetition(tokens: Sequence[Hashable], n: int = 4) -> float:
    """Share of n-grams that repeat an earlier one: 0 without repetition, near 1 for a loop."""
    return _repeated(ngrams(tokens, n))


def worst_repetition(tokens: Sequence[Hashable], length: int, n: int = 4) -> float:
    """The repetition of that part of `length` tokens which repeats itself most; parts begin every quarter length."""
    numbers: dict[tuple[Hashable, ...], int] = {}
    grams = [numbers.setdefault(gram, len(numbers)) for gram in ngrams(tokens, n)]
    starts = (*range(0, max(1, len(tokens) - length), length // 4), max(0, len(tokens) - length))
    return max(_repeated(grams[start : start + length - n + 1]) for start in starts)


def ngrams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """Every n tokens in a row."""
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def _repeated(grams: Sequence[Hashable]) -> float:
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def compression(text: str) -> float:
    """How many times zlib shrinks the text: about 1 for a short answer, large for a loop, 0 for an empty text."""
    raw = text.encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def scripts(text: str) -> frozenset[str]:
    """The scripts of the letters, by the first word of their Unicode names: `LATIN`, `CJK`, `CYRILLIC`, ...

    Letters are normalised first (NFKC), so that ℝ, µ and full-width letters count as Latin and Greek.
    """
    if text.isascii():
        return frozenset({"LATIN"}) if any(c.isalpha() for c in text) else frozenset()
    letters = {c for c in unicodedata.normalize("NFKC", text) if c.isalpha()}
    return frozenset(map(_script, letters))


def foreign_scripts(text: str, question: str = "") -> frozenset[str]:
    """Scripts of the text that neither the question nor mathematics uses."""
    return frozenset() if text.isascii() else scripts(text) - scripts(question) - FORMULAE


def sentence_scripts(text: str) -> dict[str, float]:
    """Script -> share of the words of all longer sentences that are in a sentence of this script.

    The largest share comes first; CJK is Chinese, and HIRAGANA a sentence with kana. Formulas and single letters count
    for nothing, and Chinese and Japanese characters as words. It tells a text that goes from one language to another
    with other letters; two languages with the same letters are one here.
    """
    if text.isascii():
        return {"LATIN": 1.0}
    found = Counter[str]()
    for sentence in _SENTENCE_END.split(_FORMULA.sub(" ", unicodedata.normalize("NFKC", text))):
        counts = _words_by_script(sentence)
        if counts.total() >= LEAST_WORDS:
            found[_main_script(counts)] += counts.total()
    return {script: count / found.total() for script, count in found.most_common()}


def _words_by_script(sentence: str) -> Counter[str]:
    counts = Counter[str]()
    for word in _LETTERS.findall(sentence):
        script = _script(word[0])
        if script in _EAST_ASIAN:
            counts.update(map(_script, word))
        elif len(word) > 1:
            counts[script] += 1
    return counts


def _main_script(counts: Counter[str]) -> str:
    east_asian = {script: counts[script] for script in _EAST_ASIAN}
    characters = sum(east_asian.values())
    others = max((n for script, n in counts.items() if script not in _EAST_ASIAN), default=0)
    if characters < others:
        return max(counts.keys() - set(_EAST_ASIAN), key=counts.__getitem__)
    return "CJK" if east_asian["CJK"] > (1 - _KANA) * characters else "HIRAGANA"


@lru_cache(maxsize=8192)
def _script(char: str) -> str:
    return unicodedata.name(char, "UNNAMED").split()[0]


def text_metrics(pairs: Sequence[tuple[Sample, Completion]]) -> dict[str, float]:
    """Means over responses, each given with the sample that it answers."""
    return {
        "response/repetition": float(np.mean([repetition(c.token_ids) for _, c in pairs])),
        "response/compression": float(np.mean([compression(c.text) for _, c in pairs])),
        "response/mixed_script_share": float(
            np.mean([bool(foreign_scripts(c.text, whole_question(s))) for s, c in pairs])
        ),
        "hallucination/share": float(np.mean([bool(hallucinations(s, c.text)) for s, c in pairs])),
    }


def whole_question(sample: Sample) -> str:
    """Everything that a model reads of a question: its system text, its own, and its options."""
    return "\n".join((sample.system, sample.question, *sample.choices))
