"""Numbers about text: repeated n-grams, compression, and letters of a script that is not the question's."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from seethink.core.text_measures import (
    compression,
    foreign_scripts,
    repetition,
    scripts,
    sentence_scripts,
    text_metrics,
    worst_repetition,
)
from seethink.core.types import Completion, Sample


def test_repetition() -> None:
    assert repetition([]) == repetition([1, 2, 3]) == 0.0
    assert repetition([1, 2, 3, 4, 5]) == 0.0
    assert repetition([1] * 7) == 0.75
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)


def test_the_part_that_repeats_itself_most_is_found() -> None:
    rng = random.Random(1)
    for size in (0, 3, 31, 32, 33, 64, 65, 200):
        tokens = [rng.randrange(9) for _ in range(size)]
        starts = (*range(0, max(1, size - 32), 8), max(0, size - 32))
        assert worst_repetition(tokens, 32) == max(repetition(tokens[start : start + 32]) for start in starts)


def test_compression_tells_a_loop_from_a_text() -> None:
    rng = random.Random(0)
    noise = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(600))
    assert compression("") == 0.0
    assert compression(noise) < 2 < 10 < compression("Wait, let me check again. " * 30)


@pytest.mark.parametrize(
    "text",
    ["plain", "naïve Zürich", "α + β ≤ γ", "3×4=12 √2 ∑", "𝑥 = 2 ∈ ℝ", "“quotes” — dash", "🙂", "5 µm", "ｆｕｌｌ", ""],
)
def test_what_belongs(text: str) -> None:
    assert not foreign_scripts(text)


@pytest.mark.parametrize("text", ["所以", "да", "שלום", "ですか", "아니"])
def test_what_does_not(text: str) -> None:
    assert foreign_scripts(f"so {text} 3")
    assert not foreign_scripts(f"so {text} 3", f"asked with {text}")


def test_a_question_in_chinese_may_be_answered_so_but_not_in_cyrillic() -> None:
    assert scripts("面积 = πr²") == {"CJK", "GREEK", "LATIN"}
    assert foreign_scripts("所以 x 是 4, значит", "求 x") == {"CYRILLIC"}


ENGLISH = "The area of a triangle is half of its base times its height, so it must be twelve here."
CHINESE = "三角形的面积等于底乘以高再除以二，因此答案是十二。"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ENGLISH, ["LATIN"]),
        (f"设 $ABCD$ 为正方形，Pythagoras 定理给出 \\(x = 3\\)。{CHINESE}", ["CJK"]),
        ("図のように三角形の面積は底辺と高さの積の半分です。", ["HIRAGANA"]),
        (f"<think>{CHINESE * 3}</think>{ENGLISH}", ["CJK", "LATIN"]),
        (f"<think>{ENGLISH} {ENGLISH} {CHINESE}", ["LATIN", "CJK"]),
        (f"{ENGLISH}\n求面积\n{ENGLISH} Площадь равна.", ["LATIN"]),  # a heading and two words
        ("é", []),
    ],
)
def test_the_languages_of_sentences_by_their_letters(text: str, found: list[str]) -> None:
    shares = sentence_scripts(text)
    assert list(shares) == found
    assert sum(shares.values()) == pytest.approx(1.0 if found else 0.0)


def test_means_over_responses() -> None:
    def completion(text: str, ids: list[int]) -> Completion:
        return Completion(ids, [0.0] * len(ids), [0.0] * len(ids), text, False, 0)

    sample = Sample("a", "Which?", choices=("да", "no"))
    pairs = [(sample, completion("so да", [1] * 7)), (sample, completion("so 所以", [1, 2, 3, 4, 5]))]
    metrics = text_metrics(pairs)
    assert metrics["response/repetition"] == pytest.approx(0.375)
    assert metrics["response/mixed_script_share"] == 0.5, "the choices are part of the question"
    assert metrics["response/compression"] > 0
    assert metrics["hallucination/share"] == 0.0


def test_a_denial_counts_where_there_is_an_image_to_see() -> None:
    said = Completion([1], [0.0], [0.0], "I can't see the image.", False, 0)
    blind, seeing = Sample("a", "Which?"), Sample("b", "Which?", images=(Image.new("RGB", (8, 8)),))
    assert text_metrics([(blind, said), (seeing, said)])["hallucination/share"] == 0.5
