"""Fuzzed completions: the grader, the format reward and the entropy flags take any text, on time, without an effect."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.fuzzing import fuzz, harmless, keeping, kept
from seethink.config import RecipeError, RewardConfig, make_recipe
from seethink.core.types import Completion, Sample, Verdict
from seethink.entropy.critical import mark
from seethink.rewards.format import has_think_format
from seethink.rewards.grader import grade_batch, validate_gold
from seethink.rewards.rewarder import Rewarder

pytestmark = pytest.mark.slow
TAGS = "<think> </think> <answer> </answer> <script> \\boxed{ \\text{ } { [ ) ( , ; & % $ = ^ _ ** \\\\ \\left("
MATHS = (
    r"\frac{ \sqrt \sum_{n=1}^{ \int_0^ \infty \begin{matrix} \end{matrix} \cup \pi \lim_{x\to \binom{ ! x 9 1/3 ½ −"
)
WORDINGS = (
    "A (A) 12:30 1,000 1e999 nan inf 0x1f １２ ° cm km/h Wait import __class__ lambda: \x00 \ud800 \u202e \x1b[31m"
)
RUNS = ["9" * 400, "(" * 200, "{" * 200, "-" * 300, "B or C", "the answer is ", "\n", " "]
PIECES = [*TAGS.split(" "), *MATHS.split(" "), *WORDINGS.split(" "), *RUNS]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=24).map("".join)
GOLDS = st.sampled_from(["4", "1/3", "B", "x^2+1", "[0, 1)", "\\{1, 2\\}", "3 cm", "red"]) | TEXTS
WORDS = st.lists(
    st.sampled_from(["Wait", "But", "Let me check", ".*", "("]) | st.text(min_size=1, max_size=4), max_size=4
)
BATCH = 8


@pytest.fixture(scope="module", autouse=True)
def _pool() -> None:
    """The grader's worker starts before anybody watches for processes."""
    grade_batch([("\\boxed{(x+1)^2}", "x^2+2x+1", None, None)])


def grade(data: bytes, folder: Path) -> None:
    """The property; `data` is the gold and the responses, NUL-NUL between them."""
    gold, *texts = data.decode("utf-8", "surrogatepass").split("\0\0")
    choices = ("red", "blue") if gold in ("A", "B") else ()
    try:
        answer = validate_gold(gold, choices=choices)
    except ValueError:
        answer = "1/3"
    pairs = [(Sample("a", "?", answer=answer, choices=choices), completion(text)) for text in texts]
    with harmless(folder, workers=True):
        Rewarder(RewardConfig()).score(pairs)
    for text, (_, found) in zip(texts, pairs, strict=True):
        assert found.grade is not None
        assert found.grade.verdict in Verdict
        assert math.isnan(found.reward) == (found.grade.verdict is Verdict.ERROR)
        assert found.reward_parts["format"] == float(has_think_format(text))


def completion(text: str) -> Completion:
    return Completion([1], [0.0], [0.0], text, False, 0)


@given(gold=GOLDS, texts=st.lists(TEXTS, min_size=1, max_size=BATCH))
@fuzz(40, 1000)
def test_any_completion(tmp_path_factory: pytest.TempPathFactory, gold: str, texts: list[str]) -> None:
    data = "\0\0".join([gold, *texts]).encode("utf-8", "surrogatepass")
    with keeping("completions", data):
        grade(data, tmp_path_factory.getbasetemp())


@given(tokens=st.lists(TEXTS, max_size=12), words=WORDS)
@fuzz(100, 10000)
def test_any_tokens(tokens: list[str], words: list[str]) -> None:
    marks = mark(tokens, tuple(words), 3)
    assert len(marks.critical) == len(marks.following) == len(marks.starts) == len(tokens)


def test_an_empty_word_is_refused() -> None:
    with pytest.raises(RecipeError, match="critical_words"):
        make_recipe(
            {"name": "a", "stage": "sft", "out": "b", "data": {"train": "c"}}, ['log.critical_words=["But", ""]']
        )


@given(text=TEXTS, before=st.text(max_size=5))
@fuzz(100, 10000)
def test_the_format_takes_one_block_at_the_start(text: str, before: str) -> None:
    if has_think_format(before + text):
        assert (before + text).strip().startswith("<think>")
        assert (before + text).count("</think>") == 1


@pytest.mark.parametrize("data", kept("completions"))
def test_kept_completions(data: bytes, tmp_path: Path) -> None:
    grade(data, tmp_path)
