"""The text that each token adds to a response. Joined, the pieces are the decoded response."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

BROKEN = "\ufffd"
"""The character that decoding shows for bytes that do not form a whole character (yet)."""
LONGEST = 4
"""The most bytes of a character in UTF-8, so the most tokens that may share one."""
KEPT = 2**12
"""Decoded pairs of tokens that are kept. A pair takes 0.7 kB, and a run meets new pairs for hours."""


class TokenPieces:
    """Decodes one token after another, each in the context of the one before.

    A token that is decoded by itself loses what depends on its place: the space before a word (sentencepiece), the
    missing space inside a word (wordpiece), the bytes of a character that it shares with its neighbours (byte-level
    BPE). A shared character belongs to the token that begins it.

    Example: ids of "so", " Wait", and the two halves of "等" -> ["so", " Wait", "等", ""].
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._text = lru_cache(maxsize=KEPT)(self._decode)
        self._after = lru_cache(maxsize=KEPT)(self._decode_after)

    def __call__(self, token_ids: Sequence[int]) -> list[str]:
        """[T] ids -> [T] texts."""
        pieces: list[str] = []
        context: tuple[int, ...] = ()
        pending: tuple[int, ...] = ()
        begun: list[int] = []
        text = ""
        for token in token_ids:
            pending = (*pending, token)
            text = self._after(context, pending)
            is_open = text.endswith(BROKEN)
            if not (is_open or begun):
                pieces.append(text)
            else:
                begun.append(len(text.rstrip(BROKEN)) + is_open)
                if is_open and len(pending) < LONGEST:
                    continue
                pieces += _cut(text, begun)
                begun = []
            context, pending = pending, ()
        return pieces + _cut(text, begun)

    def _decode(self, token_ids: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(list(token_ids)))

    def _decode_after(self, context: tuple[int, ...], token_ids: tuple[int, ...]) -> str:
        """What `token_ids` add to the text of `context`."""
        return self._decode(context + token_ids)[len(self._text(context)) if context else 0 :]


def _cut(text: str, begun: list[int]) -> list[str]:
    """The texts of tokens that share characters; `begun` counts the characters begun up to and including each token."""
    if not begun:
        return []
    ends = [*begun[:-1], len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
