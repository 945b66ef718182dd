"""The format reward is exact, and linear in the response."""

import time

import pytest

from seethink.rewards.format import has_think_format


@pytest.mark.parametrize(
    "text",
    [
        "<think>2+2</think>4",
        "  \n<think>\nlong\nthought\n</think>\n\\boxed{4}",
        "<think> a < b </think> <answer>4</answer>",
    ],
)
def test_thinks_first_and_answers_afterwards(text: str) -> None:
    assert has_think_format(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "<think></think>4",
        "<think> \n </think>4",
        "<think>2+2</think>",
        "<think>2+2</think>  \n",
        "<think>2+2",
        "2+2</think>4",
        "</think>2+2<think>4",
        "Sure: <think>2+2</think>4",
        "<think>a</think><think>b</think>4",
        "<think><think>a</think>4",
        "<think>a</think></think>4",
        "<THINK>a</THINK>4",
    ],
)
def test_anything_else_has_no_format(text: str) -> None:
    assert not has_think_format(text)


def test_degenerate_tail_of_48_kb_takes_no_time() -> None:
    text = "<think>a" + "</think>\\boxed{" * (48_000 // 15)
    start = time.perf_counter()
    assert not has_think_format(text)
    assert time.perf_counter() - start < 0.05
