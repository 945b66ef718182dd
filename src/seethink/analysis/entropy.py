"""Token entropy, and entropy at critical tokens: where a word such as "Wait" was about to be chosen (paper 5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from seethink.data.chat import Chat
from seethink.types import Completion


@lru_cache(maxsize=32)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Whole words, any case; longer ones first, so that "Let me check" is not cut short."""
    ranked = sorted(words, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(re.escape(word) for word in ranked) + r")(?!\w)", re.IGNORECASE)


def critical_flags(token_texts: Sequence[str], words: tuple[str, ...]) -> list[bool]:
    """[T] True where a critical word begins inside the token.

    Found in the decoded text, so that it does not matter how a tokenizer cuts the word.
    """
    flags = [False] * len(token_texts)
    if not words:
        return flags
    ends = np.cumsum([len(text) for text in token_texts])
    for match in _pattern(words).finditer("".join(token_texts)):
        flags[int(np.searchsorted(ends, match.start(), side="right"))] = True
    return flags


class EntropyMeter:
    """Entropy statistics of sampled completions, from the entropies that decoding recorded."""

    def __init__(self, chat: Chat, words: tuple[str, ...]) -> None:
        self._chat, self._words = chat, words
        self._texts: dict[int, str] = {}

    def texts(self, token_ids: Sequence[int]) -> list[str]:
        for token in token_ids:
            if token not in self._texts:
                self._texts[token] = self._chat.token_texts([token])[0]
        return [self._texts[token] for token in token_ids]

    def flags(self, completion: Completion) -> list[bool]:
        return critical_flags(self.texts(completion.token_ids), self._words)

    def metrics(self, completions: Sequence[Completion]) -> dict[str, float]:
        """`entropy/mean` over all tokens; `entropy/critical` over critical ones, with their count."""
        everything = np.concatenate([c.entropies for c in completions]) if completions else np.zeros(0)
        flags = np.array([flag for c in completions for flag in self.flags(c)], dtype=bool)
        critical = everything[flags] if len(flags) else everything
        metrics = {"entropy/critical_count": float(critical.size)}
        if everything.size:
            metrics["entropy/mean"] = float(everything.mean())
        if critical.size:
            metrics["entropy/critical"] = float(critical.mean())
        return metrics
