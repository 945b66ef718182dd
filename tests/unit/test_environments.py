"""Tools: what a model may write, what it is answered, and that no call raises or costs much."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seethink.core.types import Sample
from seethink.environments.calculator import MAX_CHARS, Calculator, calculate
from seethink.environments.calls import Call, CallError, read_call
from seethink.environments.make import ENVIRONMENTS
from seethink.environments.protocol import FINAL, Environment, Step
from seethink.environments.zoom import MAX_ASPECT, MAX_CROPS, MAX_SIDE, MIN_SIDE, Zoom, crop


def call(name: str, **arguments: object) -> str:
    return f"<think>look</think><tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def environment(name: str, *sizes: tuple[int, int]) -> Environment:
    made = ENVIRONMENTS[name]()  # type: ignore[index]
    made.reset(Sample("s", "?", tuple(Image.linear_gradient("L").convert("RGB").resize(size) for size in sizes)))
    return made


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 * (4 + 5)", "27"), ("2 - 3 - 4", "-5"), ("12 / 4 / 3", "1"), ("-2^2", "-4"), ("2^3^2", "512"),
        ("2 ** 10", "1024"), ("7 × 6 ÷ 2 − 1", "20"), ("--3", "3"), ("-(1.5 + .5)", "-2"), ("1/8", "0.125"),
        ("1/3", "about 0.333333333333"), ("-2/3", "about -0.666666666667"), ("2^-2", "0.25"), ("0.1 + 0.2", "0.3"),
        (" 12 ", "12"), ("1/10^13", "about 0"),
    ],
)  # fmt: skip
def test_the_calculator_is_exact(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1/0", "divide by zero"), ("9^9^9^9", "too large"), ("9^9999", "more than 40 digits"), ("2^0.5", "whole"),
        ("0^0", "no value"), ("(" * 60 + "1", "nested"), ("-" * 150 + "1", "nested"), ("1" * 300, "longer than"),
        ("(1", "not closed"), ("1)", "goes on"), ("1 2", "goes on"), ("", "missing"), ("3 *", "missing"),
        ("__import__('os')", "numbers"), ("1e5", "numbers"), ("x", "numbers"), ("٣+1", "numbers"),
    ],
)  # fmt: skip
def test_the_calculator_refuses(expression: str, said: str) -> None:
    with pytest.raises(CallError, match=said):
        calculate(expression)


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="0123456789.+-*/^() ", max_size=MAX_CHARS))
def test_no_expression_costs_much(expression: str) -> None:
    started = time.perf_counter()
    answer = environment("calculator").step(call("calculator", expression=expression))
    assert len(answer.text) < 150
    assert time.perf_counter() - started < 1


def test_a_call_is_read_wherever_it_stands() -> None:
    assert read_call("<think>3 and 4</think>So 7.") is None
    assert read_call(call("calculator", expression="1") + " ...") == Call("calculator", {"expression": "1"})


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<tool_call>", "does not end"), ("<tool_call>{</tool_call>", "not JSON"), ("<tool_call></tool_call>", "JSON"),
        ('<tool_call>{"name": "zoom"}</tool_call>', "arguments"), ("<tool_call>[1]</tool_call>", "JSON object"),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', "text"),
        ('<tool_call>{"name": "zoom", "arguments": []}</tool_call>', "text"),
        (call("zoom") + call("zoom"), "several"), ("<tool_call><tool_call></tool_call>", "several"),
        ("<tool_call>" + "[" * 900 + "</tool_call>", "not JSON"),
        ("<tool_call>" + "9" * 5000 + "</tool_call>", "longer"),
        (call("shell", command="<|im_end|> rm"), "no such tool"), (call("calculator"), "takes"),
        (call("calculator", expression=3), "takes"), (call("calculator", expression="1", more=2), "takes"),
    ],
)  # fmt: skip
def test_a_bad_call_is_answered_by_what_is_wrong(written: str, said: str) -> None:
    answer = environment("calculator").step(written)
    assert answer.failed
    assert not answer.done
    assert said in answer.text
    assert answer.text.startswith("<tool_response>error: ")
    assert "im_end" not in answer.text  # nothing of the call is quoted


def test_the_calculator_answers_and_a_turn_without_a_call_is_the_last() -> None:
    tool = environment("calculator")
    assert tool.step(call("calculator", expression="17*3")) == Step("<tool_response>51</tool_response>")
    assert tool.step("<think>51</think>51") is FINAL


def test_a_crop_shows_its_part_enlarged() -> None:
    picture = Image.new("RGB", (200, 100))
    picture.paste((255, 0, 0), (100, 50, 150, 75))
    answer = Zoom()
    answer.reset(Sample("s", "?", (picture,)))
    (shown,) = answer.step(call("zoom", box=[500, 500, 750, 750])).images
    assert shown.size == (200, 100)
    assert shown.getpixel((100, 50)) == (255, 0, 0)
    assert shown.getextrema() == ((255, 255), (0, 0), (0, 0))


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 1000, 1000], [-500, -5e300, 10**30, 2000], [0, 0, 1, 1], [999, 999, 1000, 1000], [0, 500, 1000, 501],
        [500, 0, 501, 1000],
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(56, 56), (3000, 40), (7, 5), (1, 1), (20, 900), (1030, 500)])
def test_a_crop_of_any_box_is_bounded(box: list[float], size: tuple[int, int]) -> None:
    answer = environment("zoom", size).step(call("zoom", box=box))
    (shown,) = answer.images
    assert not answer.failed
    assert max(shown.size) <= max(MAX_SIDE, *size)
    own = max(size) / min(size)
    assert max(shown.size) / min(shown.size) <= max(MAX_ASPECT * 1.5, own * 1.5)
    assert "[" in answer.text


def test_a_small_box_is_widened_within_the_picture() -> None:
    assert crop(Image.new("RGB", (100, 100)), (999, 0, 1000, 1)).size == (100, 100)
    corner = Image.new("RGB", (100, 100))
    corner.paste((9, 9, 9), (100 - MIN_SIDE, 0, 100, MIN_SIDE))
    assert crop(corner, (999, 0, 1000, 1)).getextrema() == ((9, 9),) * 3


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"box": "all"}, {"box": [1, 2, 3]}, {"box": [1, 2, 3, "4"]}, {"box": [True, 0, 500, 500]},
        {"box": [500, 0, 500, 10]}, {"box": [600, 0, 500, 10]}, {"box": [1200, 0, 1300, 10]},
        {"box": [0, 0, 9, 9], "image": 3}, {"box": [0, 0, 9, 9], "image": True}, {"box": [0, 0, 9, 9], "path": "/etc"},
        {"box": [float("nan"), 0, 9, 9]}, {"box": [0, 0, float("inf"), 9]},
    ],
)  # fmt: skip
def test_a_box_that_is_none_is_refused(arguments: dict[str, object]) -> None:
    answer = environment("zoom", (56, 56), (56, 56)).step(call("zoom", **arguments))
    assert answer.failed
    assert not answer.images


def test_several_pictures_are_told_apart_and_crops_are_counted() -> None:
    tool = environment("zoom", (64, 64), (32, 16))
    (second,) = tool.step(call("zoom", box=[0, 0, 1000, 1000], image=2)).images
    assert second.size == (32, 16)
    for _ in range(MAX_CROPS - 1):
        assert not tool.step(call("zoom", box=[0, 0, 500, 500])).failed
    assert "no more than" in tool.step(call("zoom", box=[0, 0, 500, 500])).text


def test_what_is_called_is_told() -> None:
    for name in ENVIRONMENTS:
        assert read_call(ENVIRONMENTS[name]().instructions).name == name  # type: ignore[union-attr]
    assert not Calculator.gives_images
