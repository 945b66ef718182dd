"""Measures of a response's text that move when a policy degenerates.

None of them depends on a language: repeated n-grams, how far zlib compresses the text, and letters of scripts that the
question does not use.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Hashable, Sequence

import numpy as np

from seethink.core.denials import hallucinations
from seethink.core.types import Completion, Sample

FORMULAE = frozenset({"LATIN", "GREEK"})
"""Scripts of mathematics and of the think tags, which belong in every language."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


def words(text: str) -> list[str]:
    """Words in lower case; every Chinese, Japanese or Korean character is one.

    >>> words("The sum, of 3 角?")
    ['the', 'sum', 'of', '3', '角']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def repetition(tokens: Sequence[Hashable], n: int = 4) -> float:
    """Share of n-grams that repeat an earlier one: 0 without repetition, near 1 for a loop."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
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
    return frozenset(unicodedata.name(c, "UNNAMED").split()[0] for c in letters)


def foreign_scripts(text: str, question: str = "") -> frozenset[str]:
    """Scripts of the text that neither the question nor mathematics uses."""
    return frozenset() if text.isascii() else scripts(text) - scripts(question) - FORMULAE


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
