"""Critical words are found in the decoded text, however a tokenizer cuts them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethink.analysis.entropy import EntropyMeter, critical_flags
from seethink.config import LogConfig
from seethink.types import Completion

WORDS = LogConfig().critical_words


def flagged(*tokens: str, words: tuple[str, ...] = WORDS) -> list[str]:
    """The tokens that are flagged."""
    flags = critical_flags(tokens, words)
    assert len(flags) == len(tokens)
    return [token for token, flag in zip(tokens, flags, strict=True) if flag]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["So", " Wait", ",", " no"], [" Wait"]),
        (["Wait"], ["Wait"]),
        (["W", "ait", ","], ["W"]),
        ([" Alt", "ern", "atively", ","], [" Alt"]),
        (["a.", "Wa", "it", "."], ["Wa"]),
        (["hmm", " WAIT", " bUt"], ["hmm", " WAIT", " bUt"]),
        (["But", "ton"], []),
        (["Button", " rebut", " butter"], []),
        (["A", "wait", "ing"], []),
        (["but", "-", "not"], ["but"]),
        (["Let", " me", " check", "."], ["Let"]),
        (["Let", " me", " see"], []),
        (["Let me check", " Wait"], ["Let me check", " Wait"]),
        (["wait_", "x"], []),
        (["Wait Wait", "!"], ["Wait Wait"]),
        (["", "Wait", ""], ["Wait"]),
        ([], []),
    ],
)
def test_flags(tokens: list[str], expected: list[str]) -> None:
    assert flagged(*tokens) == expected


def test_no_words_flag_nothing() -> None:
    assert flagged("Wait", " But", words=()) == []


def test_longer_words_come_first_and_signs_are_literal() -> None:
    assert flagged("Wait", " a", " moment", words=("Wait", "Wait a moment")) == ["Wait"]
    assert flagged("what", " is a.b", words=("a.b",)) == [" is a.b"]
    assert flagged("axb", words=("a.b",)) == []


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_the_cut_does_not_matter(lengths: list[int]) -> None:
    """However the text is cut, each word flags exactly the token in which it begins."""
    text, starts = "so Wait, but let me check it", (3, 9, 13)
    tokens, at = [], 0
    for length in (*lengths, len(text)):
        tokens.append(text[at : at + length])
        at += length
    expected, at = [], 0
    for token in tokens:
        expected.append(any(at <= start < at + len(token) for start in starts))
        at += len(token)
    assert critical_flags(tokens, WORDS) == expected


class WordChat:
    """Token i is word i."""

    TEXTS = (" Wait", " so", " But", "ton", " 7")

    def token_texts(self, ids: list[int]) -> list[str]:
        return [self.TEXTS[i] for i in ids]


def completion(ids: list[int], entropies: list[float]) -> Completion:
    return Completion(ids, [0.0] * len(ids), entropies, "", False, 0)


def meter() -> EntropyMeter:
    chat: Any = WordChat()
    return EntropyMeter(chat, WORDS)


def test_means_over_all_and_over_critical_tokens() -> None:
    metrics = meter().metrics([completion([0, 1, 4], [2.0, 0.5, 0.5]), completion([1, 2, 3, 0], [0.0, 9.0, 0.0, 4.0])])
    assert metrics["entropy/mean"] == pytest.approx(16 / 7)
    assert metrics["entropy/critical"] == pytest.approx(3.0)
    assert metrics["entropy/critical_count"] == 2


def test_nothing_critical_has_a_count_but_no_mean() -> None:
    assert meter().metrics([completion([1, 4], [1.0, 3.0])]) == {"entropy/mean": 2.0, "entropy/critical_count": 0.0}
    assert meter().metrics([]) == {"entropy/critical_count": 0.0}
