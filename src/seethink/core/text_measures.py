"""What responses look like as text, in numbers that move when a policy degenerates.

Nothing here knows a language: repeated n-grams, how well zlib packs a text, and letters of a script that the question
does not have.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from seethink.core.denials import hallucinations
from seethink.core.types import Completion, Sample

FORMULAE = frozenset({"LATIN", "GREEK"})
"""Scripts of mathematics and of the think tags, at home in every language."""


def repetition(tokens: Sequence[int], n: int = 4) -> float:
    """Share of n-grams that occurred before: 0 without repetition, towards 1 for a loop."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def compression(text: str) -> float:
    """Bytes of the text for each byte that zlib makes of it: about 1 for a short answer, large for a loop.

    0 for an empty text.
    """
    raw = text.encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def scripts(text: str) -> frozenset[str]:
    """The scripts of the letters, by the first word of their Unicode names: `LATIN`, `CJK`, `CYRILLIC`, ...

    Letters are taken in their plain form (NFKC), so that ℝ, µ and full-width letters belong to Latin and Greek.
    """
    if text.isascii():
        return frozenset({"LATIN"}) if any(c.isalpha() for c in text) else frozenset()
    letters = {c for c in unicodedata.normalize("NFKC", text) if c.isalpha()}
    return frozenset(unicodedata.name(c, "UNNAMED").split()[0] for c in letters)


def foreign_scripts(text: str, question: str = "") -> frozenset[str]:
    """Scripts of the text that neither the question nor mathematics has."""
    return frozenset() if text.isascii() else scripts(text) - scripts(question) - FORMULAE


def text_metrics(pairs: Sequence[tuple[Sample, Completion]]) -> dict[str, float]:
    """Means over the responses to the given samples."""
    return {
        "response/repetition": float(np.mean([repetition(c.token_ids) for _, c in pairs])),
        "response/compression": float(np.mean([compression(c.text) for _, c in pairs])),
        "response/mixed_script_share": float(np.mean([bool(foreign_scripts(c.text, _asked(s))) for s, c in pairs])),
        "hallucination/share": float(np.mean([bool(hallucinations(s, c.text)) for s, c in pairs])),
    }


def _asked(sample: Sample) -> str:
    return "\n".join((sample.system, sample.question, *sample.choices))
