"""The options of a row: their texts without letters of their own, nulls and Python's spelling of lists."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from helpers.rows import Row
from seethink.core.types import Sample
from seethink.data.chat import _with_choices
from seethink.data.options import read_options
from seethink.data.quarantine import RowError

NAN = float("nan")


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({}, ()),
        ({"choices": []}, ()),
        ({"choices": ""}, ()),
        ({"choices": [None, None]}, ()),
        ({"choices": NAN, "options": ["red", "blue"]}, ("red", "blue")),
        ({"options": ["A. red", "B. blue"]}, ("red", "blue")),
        ({"options": ["(A) red", "(B) blue"]}, ("red", "blue")),
        ({"options": ["a) red", "b) blue"]}, ("red", "blue")),
        ({"options": ["A: red", "B: blue"]}, ("red", "blue")),
        ({"options": ["A．红色", "B．蓝色"]}, ("红色", "蓝色")),
        ({"options": ["A. red", "C. blue"]}, ("A. red", "C. blue")),
        ({"options": ["A cat", "B cat"]}, ("A cat", "B cat")),
        ({"options": ["red", "blue", None, None]}, ("red", "blue")),
        ({"options": ["red", "blue", "", NAN]}, ("red", "blue")),
        ({"options": ["1", "2", "None"]}, ("1", "2", "None")),
        ({"options": ["red", "red", "blue"]}, ("red", "red", "blue")),
        ({"options": ["<image>", "<image>"]}, ("<image>", "<image>")),
        ({"options": [3, 5, 7.5]}, ("3", "5", "7.5")),
        ({"options": '["red", "blue"]'}, ("red", "blue")),
        ({"options": "['red', \"blue's\"]"}, ("red", "blue's")),
        ({"options": "[]"}, ()),
        ({"options": {"A": "red", "B": "blue", "C": None}}, ("red", "blue")),
        ({"options": {"label": ["A", "B"], "text": ["red", "blue"]}}, ("red", "blue")),
        ({"A": "red", "B": "blue", "C": "", "D": None}, ("red", "blue")),
        ({"A": "red", "answer": "x"}, ()),
    ],
)
def test_their_texts(row: Row, texts: tuple[str, ...]) -> None:
    found = read_options(row)
    assert (found.texts, found.shown) == (texts, texts)


@pytest.mark.parametrize("letters", [["A", "B", "C"], ["(a)", "(b)", "(c)"], ["A.", "B.", "C."]])
def test_letters_alone_are_not_shown(letters: list[str]) -> None:
    found = read_options({"choices": letters})
    assert (found.texts, found.shown) == (("A", "B", "C"), ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["red", None, "blue"], "'choices': choice 2 is empty, before one that is not"),
        ({"A": "red", "C": "blue"}, "'choices': choice 2 is empty"),
        ({"1": "red", "2": "blue"}, "expected the letters A, B, ... as keys, found '1'"),
        (["red"], "one choice; expected 2 to 26"),
        ("['red', open('x')]", "must be a list of texts, not the text \"['red', open('x')]\""),
        ("red or blue", "'choices' must be a list of texts, not the text 'red or blue'"),
        ([["red", "blue"], "green"], "'choices', choice A: expected a text, found list"),
        (["red", {"text": "blue"}], "'choices', choice B: expected a text, found dict"),
        (["a.png", "b.png"], "choice A is an image; write <image> there and give the image in 'images'"),
        ([{"bytes": b"\x89PNG\r\n\x1a\n", "path": None}, "b"], "choice A is an image"),
        (["x"] * 20_000, "'choices': 20,000 choices; at most 26 have a letter"),
    ],
)
def test_options_that_cannot_be_shown(options: Any, said: str) -> None:
    with pytest.raises(RowError) as error:
        read_options({"choices": options})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        ("Which?", "Which?\nA. 红色\nB. 蓝色"),
        ("Which?\nA. 红色\nB. 蓝色", None),
        ("Which? (A) 红色 (B) 蓝色", None),
        ("选择颜色：A．红色，B．蓝色", None),
        ("颜色A．红色B．蓝色", None),
    ],
)
def test_a_question_that_shows_its_options_is_not_given_them_again(question: str, shown: str | None) -> None:
    sample = Sample("s", question, (Image.new("RGB", (2, 2)),), "A", ("红色", "蓝色"))
    assert _with_choices(sample) == (shown or question)
