"""Critical words, with which reasoning turns ("Wait", "Alternatively", ...; paper 5.1), in any language and tokenizer.

Words are found in the decoded text, so that it does not matter how a tokenizer splits them; `spellings` gives the token
sequences that write a word, for masks and probability mass.

Letter: T tokens of a response.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import regex

from seethink.data.token_pieces import TokenPieces

UNSPACED = "".join(
    rf"\p{{Script={script}}}"
    for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
"""Scripts that put no spaces between words."""
IN_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{UNSPACED}]]"
"""A character that would continue a word of a script with spaces."""
SENTENCE = regex.compile(
    r"(?:\A|[.!?…]['\"”’)\]*]*\s|[。！？；]['\"”’」』）]*|\n|</?think>)\s*(?=\S)(?!</?think>)", regex.V1
)
"""Matches end where a sentence or a line begins."""
MOST_TOKENS = 3
"""A spelling of more tokens is given only where the tokenizer itself would write it so."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Places in a response; all [T] bool."""

    critical: np.ndarray
    """A critical word begins in this token: it was drawn from the distribution whose entropy is measured."""
    following: np.ndarray
    """One of the `window` tokens after the last token of a critical word."""
    starts: np.ndarray
    """A sentence or line begins in this token."""


def mark(pieces: Sequence[str], words: tuple[str, ...], window: int) -> Marks:
    """Find the critical tokens, the tokens after them and the sentence starts, given the text that each token adds."""
    text, ends = "".join(pieces), np.cumsum([len(piece) for piece in pieces])
    critical, following, starts = (np.zeros(len(pieces), dtype=bool) for _ in range(3))
    spans = np.array(list(word_spans(text, words)), dtype=int).reshape(-1, 2)
    critical[np.searchsorted(ends, spans[:, 0], side="right")] = True
    for last in np.searchsorted(ends, spans[:, 1] - 1, side="right"):
        following[last + 1 : last + 1 + window] = True
    begins = [match.end() for match in SENTENCE.finditer(text)]
    starts[np.searchsorted(ends, begins, side="right")] = True
    return Marks(critical, following, starts)


def word_spans(text: str, words: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """[start, end) of every whole critical word in any case; different words may overlap."""
    for pattern in _patterns(words):
        yield from (match.span() for match in pattern.finditer(text))


@lru_cache(maxsize=32)
def _patterns(words: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(regex.compile(_pattern(word), regex.IGNORECASE | regex.V1) for word in words if word.strip())


def _pattern(word: str) -> str:
    """Matches the whole word; an edge needs a word boundary only where its script has such boundaries.

    Composed and decomposed characters match each other, and so do all apostrophes and all kinds of space. Spaces may
    stand between Chinese characters, because some tokenizers decode them so.
    """
    word = word.strip()
    forms = dict.fromkeys(unicodedata.normalize(form, word) for form in ("NFC", "NFD"))
    literal = "|".join(r"\s+".join(_characters(part) for part in form.split()) for form in forms)
    before, after = (rf"(?<!{IN_WORD})", rf"(?!{IN_WORD})")
    spaced = [regex.match(IN_WORD, edge, regex.V1) for edge in (word[0], word[-1])]
    return (before if spaced[0] else "") + f"(?:{literal})" + (after if spaced[1] else "")


def _characters(word: str) -> str:
    escaped = regex.sub("['’]", "['’]", regex.escape(word, special_only=True))
    return str(regex.sub(rf"(?<=[{UNSPACED}])(?=[{UNSPACED}])", r"\\s*", escaped))


def spellings(chat_or_tokenizer: Any, words: Iterable[str]) -> list[tuple[int, ...]]:
    """All token sequences that write one of the words: as given, lower, upper, capital; with and without a space.

    These are all ways to split a spelling into at most `MOST_TOKENS` tokens of the vocabulary, and the tokenizer's own,
    whatever its length. Shortest first. The neighbourhood is not checked: " but" also begins " butter".
    """
    tokenizer = getattr(chat_or_tokenizer, "tokenizer", chat_or_tokenizer)
    vocabulary = _vocabulary(tokenizer)
    found: set[tuple[int, ...]] = set()
    for variant in (variant for word in words for variant in _variants(word)):
        found |= set(_cuts(variant, vocabulary, MOST_TOKENS)) | set(_encodings(tokenizer, variant))
    return sorted(found, key=lambda ids: (len(ids), ids))


def watched_ids(chat_or_tokenizer: Any, words: Iterable[str]) -> tuple[int, ...]:
    """Token ids whose summed probability at a sentence start is that of a critical word there.

    A word that is a token of the vocabulary contributes its single tokens. Any other word contributes the first tokens
    of its spellings, which other words may share ("Let" of "Let me check"): the sum is then an upper bound.
    """
    tokenizer = getattr(chat_or_tokenizer, "tokenizer", chat_or_tokenizer)
    vocabulary, pieces = _vocabulary(tokenizer), TokenPieces(tokenizer)
    ids: set[int] = set()
    for word in words:
        variants = _variants(word)
        single = {token for variant in variants for token in vocabulary.get(variant, ())}
        written = {ids for variant in variants for ids in _encodings(tokenizer, variant)}
        ids |= single or {ids[0] for ids in written if pieces(ids[:1])[0].strip()}
    return tuple(sorted(ids))


def _variants(word: str) -> list[str]:
    word = word.strip()
    cases = dict.fromkeys([word, word.lower(), word.upper(), word[:1].upper() + word[1:]])
    return [space + case for case in cases for space in ("", " ")] if word else []


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Any) -> dict[str, list[int]]:
    """Text that a token adds in the middle of a text -> the ids of such tokens."""
    special = set(tokenizer.all_special_ids)
    context = tokenizer("a", add_special_tokens=False)["input_ids"]
    known = [i for i in range(len(tokenizer)) if i not in special]
    skipped = len(str(tokenizer.decode(context)))
    texts = tokenizer.batch_decode([[*context, i] for i in known])
    vocabulary: dict[str, list[int]] = {}
    for token, text in zip(known, texts, strict=True):
        vocabulary.setdefault(text[skipped:], []).append(token)
    return vocabulary


def _cuts(text: str, vocabulary: dict[str, list[int]], most: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of at most `most` tokens whose texts join to `text`."""
    if not text:
        yield ()
    elif most:
        for end in range(1, len(text) + 1):
            for token in vocabulary.get(text[:end], ()):
                yield from ((token, *rest) for rest in _cuts(text[end:], vocabulary, most - 1))


def _encodings(tokenizer: Any, text: str) -> Iterator[tuple[int, ...]]:
    """How the tokenizer writes the text at the beginning, on a new line, and after a full stop."""
    pieces = TokenPieces(tokenizer)
    for before in ("", "\n", ".", "。"):
        context, ids = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (before, before + text))
        written = "".join(pieces(ids)[len(context) :])
        if ids[: len(context)] == context and _letters(written) == _letters(text):
            yield tuple(ids[len(context) :])


def _letters(text: str) -> str:
    return "".join(text.casefold().split())
