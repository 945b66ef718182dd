"""Stage 4: what a trace's text is like. Scores are stored and decide nothing; thresholds come last (`filters.py`)."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from seethink.config import LogConfig
from seethink.core.denials import hallucinations
from seethink.core.text_measures import (
    compression,
    foreign_scripts,
    repetition,
    sentence_scripts,
    whole_question,
    words,
    worst_repetition,
)
from seethink.core.types import Sample
from seethink.entropy.critical import word_spans
from seethink.rewards.format import has_think_format

VERSION = 2
"""Changes where the same trace has other scores than before: they are then measured anew."""
MIN_WINDOW = 32
"""Tokens. Fewer repeat themselves by chance."""
CRITICAL_WORDS: tuple[str, ...] = LogConfig.model_fields["critical_words"].default
GRAM, SKETCH = 5, 32
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<(?:end|start)_of_turn>")

Tokenize = Callable[[str], Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class Counting:
    """What lengths are counted in."""

    tokenize: Tokenize
    unit: str
    """In words, for people."""
    by: str
    """The same as an identity: other scores have another one."""


@dataclass(frozen=True, slots=True)
class TraceScores:
    """Measures of one trace.

    Example: `TraceScores(True, 212, 0.06, 0.11, 2.4, (), 0, 3)`
    """

    think_format: bool
    """Whether it thinks inside `<think>` and answers after it."""
    tokens: int
    repetition: float
    """Share of 4-grams of tokens that repeat an earlier one, in the whole trace."""
    worst_repetition: float
    """The same in that third of the trace which repeats itself most: a loop may come late."""
    compression: float
    """How many times zlib shrinks the text."""
    foreign_scripts: tuple[str, ...]
    """Scripts that neither the question nor its answer nor mathematics uses."""
    hallucinations: int
    """Statements that the image cannot be seen, though the question has one."""
    critical_words: int
    """`Wait`, `Alternatively` and the like (paper 5.1), where a sentence begins or not."""
    control_tokens: int
    """Texts such as `<|im_end|>` that a tokenizer takes for the end of a turn, and characters such as NUL and ESC."""
    sketch: tuple[int, ...] = ()
    """The smallest hashes of its word 5-grams, in order: what `overlap` compares traces by."""
    sentence_scripts: tuple[str, ...] = ()
    """The main scripts of its longer sentences, the most frequent first: more than one where it changes language."""
    other_script: float = 0.0
    """Share of the longer sentences' words that are in a sentence of another script than the most frequent one."""


def measure(sample: Sample, response: str, tokenize: Tokenize, *, filtered_by: bool = False) -> TraceScores:
    """The scores of a response to a sample. `tokenize` gives its tokens.

    With `filtered_by`, only those that training filters by; the others, which take longer, are 0.
    """
    tokens = tokenize(response)
    whole = repetition(tokens)
    foreign = foreign_scripts(response, f"{whole_question(sample)}\n{sample.answer}")
    by_script = {} if filtered_by else sentence_scripts(response)
    return TraceScores(
        think_format=has_think_format(response),
        tokens=len(tokens),
        repetition=whole,
        worst_repetition=max(whole, worst_repetition(tokens, max(MIN_WINDOW, math.ceil(len(tokens) / 3)))),
        compression=0.0 if filtered_by else compression(response),
        foreign_scripts=tuple(sorted(foreign)),
        hallucinations=len(hallucinations(sample, response)),
        critical_words=0 if filtered_by else sum(1 for _ in word_spans(response, CRITICAL_WORDS)),
        control_tokens=0 if filtered_by else len(_CONTROL.findall(response)),
        sketch=() if filtered_by else _sketch(response),
        sentence_scripts=tuple(by_script),
        other_script=round(1 - max(by_script.values(), default=1.0), 4),
    )


def _sketch(text: str) -> tuple[int, ...]:
    found = words(text)
    grams = {" ".join(found[start : start + GRAM]) for start in range(max(1, len(found) - GRAM + 1))}
    return tuple(sorted(zlib.crc32(gram.encode("utf-8", "replace")) for gram in grams)[:SKETCH])


def overlap(one: TraceScores, other: TraceScores) -> float:
    """The share of word 5-grams that two traces have in common, estimated from their sketches (bottom-k MinHash)."""
    both = sorted({*one.sketch, *other.sketch})[:SKETCH]
    shared = set(one.sketch) & set(other.sketch)
    return sum(value in shared for value in both) / len(both) if both else 1.0
