"""Critical words in any language, found and spelled with tokenizers of every kind."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.small_tokenizers import KINDS, LINES, small_tokenizer
from seethink.config import LogConfig
from seethink.data.token_pieces import TokenPieces
from seethink.entropy.critical import mark, spellings, watched_ids, word_spans

WORDS = (*LogConfig().critical_words, "等等", "不过", "🤔")


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def found(text: str, *words: str) -> list[str]:
    return [text[start:end] for start, end in sorted(word_spans(text, words))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line", LINES)
def test_pieces_join_to_the_text(kind: str, line: str) -> None:
    tokenizer = small_tokenizer(kind)
    ids = ids_of(tokenizer, line)
    pieces = TokenPieces(tokenizer)(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids)


@given(st.text(st.sampled_from("a 等🤔🏽é'.\n不"), max_size=12))
@settings(max_examples=60, deadline=None)
def test_characters_cut_into_bytes_belong_to_the_token_that_begins_them(text: str) -> None:
    """Every byte a token: a piece is the whole character at its first byte, and nothing at the others."""
    tokenizer = small_tokenizer("bpe", 256)
    expected = [part for char in text for part in (char, *[""] * (len(char.encode()) - 1))]
    assert TokenPieces(tokenizer)(ids_of(tokenizer, text)) == expected


def test_bytes_that_are_no_character_lose_nothing_else() -> None:
    tokenizer = small_tokenizer("bpe", 256)
    whole, half = ids_of(tokenizer, "等"), ids_of(tokenizer, "不")[:1]
    for ids in ([*half, *whole], [*half, *half, *ids_of(tokenizer, "ab")], [*whole, *half], [*half] * 6):
        pieces = TokenPieces(tokenizer)(ids)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", [*KINDS, "bytes"])
@pytest.mark.parametrize("line", LINES)
def test_words_are_found_alike_with_every_tokenizer(kind: str, line: str) -> None:
    """As many critical tokens as words in the text, each where decoding up to it leaves just what stands before."""
    tokenizer = small_tokenizer("bpe", 256) if kind == "bytes" else small_tokenizer(kind)
    ids = ids_of(tokenizer, line)
    pieces = TokenPieces(tokenizer)(ids)
    text = "".join(pieces)
    spans = list(word_spans(text, WORDS))
    starts = {start for start, _ in spans}
    flagged = [i for i, flag in enumerate(mark(pieces, WORDS, 2).critical) if flag]
    reached = [(len("".join(pieces[:i])), len("".join(pieces[: i + 1]))) for i in flagged]
    assert all(any(low <= start < high for start in starts) for low, high in reached)
    assert all(any(low <= start < high for low, high in reached) for start in starts)
    if kind != "wordpiece":  # which knows neither the emoji nor every sign
        assert text == line


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("红色是三，等等，不过", ("等等", "不过"), ["等等", "不过"]),
        ("他说等等我", ("等等",), ["等等"]),
        ("等等等等", ("等等",), ["等等", "等等"]),
        ("红 等 等 我", ("等等",), ["等 等"]),
        ("然后Wait等等", ("wait",), ["Wait"]),
        ("ちょっと待って、でも", ("待って", "でも"), ["待って", "でも"]),
        ("เดี๋ยวก่อนแต่ว่า", ("แต่",), ["แต่"]),
        ("하지만 잠깐", ("잠깐", "하지만"), ["하지만", "잠깐"]),
        ("잠깐만", ("잠깐",), []),
        ("Warten wir, aber Aberglaube", ("aber",), ["aber"]),
        ("ПОДОЖДИ, но ноль", ("подожди", "но"), ["ПОДОЖДИ", "но"]),
        (unicodedata.normalize("NFD", "Però no"), ("però",), [unicodedata.normalize("NFD", "Però")]),
        ("Let’s see, let's", ("Let's",), ["Let’s", "let's"]),
        ("let  me\ncheck", ("Let me check",), ["let  me\ncheck"]),
        ("but wait", ("but wait", "wait"), ["but wait", "wait"]),
        ("x🤔y", ("🤔",), ["🤔"]),
        ("लेकिन लेकिनी", ("लेकिन",), ["लेकिन"]),
        ("anything", ("", " "), []),
    ],
)
def test_whole_words(text: str, words: tuple[str, ...], expected: list[str]) -> None:
    assert found(text, *words) == expected


def places(pieces: list[str], words: tuple[str, ...], window: int) -> tuple[list[int], list[int], list[int]]:
    marks = mark(pieces, words, window)
    critical, following, starts = (
        [i for i, flag in enumerate(flags) if flag] for flags in (marks.critical, marks.following, marks.starts)
    )
    return critical, following, starts


def test_the_window_begins_after_the_word() -> None:
    pieces = ["so", " W", "ait", ",", " it", " is", " 4"]
    assert places(pieces, ("Wait",), 2) == ([1], [3, 4], [0])
    assert places(pieces, ("Wait",), 9) == ([1], [3, 4, 5, 6], [0])
    assert places(["Wait", " But", " so"], ("Wait", "But"), 1) == ([0, 1], [1, 2], [0])
    assert places([], ("Wait",), 3) == ([], [], [])


def test_sentence_starts() -> None:
    pieces = [
        "<think>",
        "red",
        " is",
        " 3",
        ".",
        "5",
        ".",
        " Wait",
        "!",
        "\n\n",
        "But",
        "。",
        "等",
        "等",
        "</think>",
        "A",
    ]
    assert places(pieces, (), 1)[2] == [1, 7, 10, 12, 15]


@pytest.mark.parametrize("kind", [*KINDS, "bytes"])
def test_spellings_write_the_word_and_nothing_else(kind: str) -> None:
    tokenizer = small_tokenizer("bpe", 256) if kind == "bytes" else small_tokenizer(kind)
    known = [word for word in WORDS if "[UNK]" not in tokenizer.decode(ids_of(tokenizer, word))]
    context = ids_of(tokenizer, "a")
    for word in known:
        sequences = spellings(tokenizer, [word])
        assert len(set(sequences)) == len(sequences)
        for ids in sequences:
            written = "".join(TokenPieces(tokenizer)([*context, *ids])[len(context) :])
            assert "".join(written.casefold().split()) == "".join(word.casefold().split())
        # What the tokenizer makes of the word within a text is among them.
        ids = ids_of(tokenizer, f"a {word}")
        assert tuple(ids[len(context) :]) in sequences, (word, ids)


def test_spellings_have_every_case_space_and_cut() -> None:
    tokenizer = small_tokenizer("bpe")
    sequences = spellings(tokenizer, ["Wait"])
    texts = {"".join(TokenPieces(tokenizer)(ids)) for ids in sequences}
    assert texts == {"Wait", " Wait", "wait", " wait", "WAIT", " WAIT"}
    assert (ids_of(tokenizer, " Wait")[0],) in sequences, "one token of this vocabulary"
    cut = (*ids_of(tokenizer, "W"), *ids_of(tokenizer, "ait"))
    assert cut in sequences
    assert sequences == sorted(sequences, key=lambda ids: (len(ids), ids))
    assert spellings(tokenizer, []) == spellings(tokenizer, [" "]) == []


def test_watched_ids_are_whole_words_where_the_vocabulary_has_them() -> None:
    tokenizer = small_tokenizer("bpe")
    single = [ids[0] for ids in spellings(tokenizer, ["Wait"]) if len(ids) == 1]
    assert watched_ids(tokenizer, ["Wait"]) == tuple(sorted(single))
    first = watched_ids(tokenizer, ["Let me check"])
    assert ids_of(tokenizer, " let me check")[0] in first
    assert all(tokenizer.decode([i]).strip() for i in first)
