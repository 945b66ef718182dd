"""Gold answers of every form that data sets write: the answer alone, its letter, or a bad row that says what to do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from seethink.config import RewardConfig
from seethink.core.types import Sample, Verdict
from seethink.data.quarantine import RowError
from seethink.rewards.golds import bare_answers, read_gold
from seethink.rewards.rewarder import Rewarder

SHOWN = "Which colour?\nA. red\nB. green\nC. blue"
COLOURS = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("<answer>5</answer>", "5"),
        ("<answer> red </answer>", "red"),
        ("<ANSWER>5</ANSWER>", "5"),
        ("<think>2+3</think><answer>5</answer>", "5"),
        ("<think>I see it.</think>red", "red"),
        ("<|begin_of_box|>5<|end_of_box|>", "5"),
        ("\\boxed{5}", "5"),
        ("The answer is \\boxed{5}.", "5"),
        ("<answer>\\boxed{\\frac{1}{2}}</answer>", "\\frac{1}{2}"),
        ("The answer is 5.", "5"),
        ("Answer: red", "red"),
        ("Final answer: 3.5", "3.5"),
        ("0+2=2\n#### 2", "2"),
        ("First.\n\nThen 1,000.\n#### 1,000\n", "1,000"),
        ("red", "red"),
        ("5 cm", "5 cm"),
        ("(a, b)", "(a, b)"),
        ("(b) + 2", "(b) + 2"),
        ("f(x) = 2", "f(x) = 2"),
        ("J.K. Rowling", "J.K. Rowling"),
        ("1:30", "1:30"),
        (5, "5"),
        (3.0, "3"),
        (2.5, "2.5"),
        (Decimal("3.50"), "3.50"),
        ("{1, 2}", "{1, 2}"),
        (["red"], "red"),
        ([["4"]], "4"),
    ],
)
def test_the_answer_alone(gold: Any, answer: str) -> None:
    assert read_gold(gold) == answer
    assert read_gold(read_gold(gold)) == answer, "reading it again changes nothing"


@pytest.mark.parametrize(
    "gold", ["B", "b", "(B)", "B.", "B. green", "(B) green", "B) green", "B: green", "green", " Green ", "option B",
             "\\boxed{B}", "\\boxed{\\text{B}}", "$\\text{B}$", "**B**", "<answer>B</answer>",
             "<answer>B. green</answer>", "The answer is B.", "The answer is B. green", "Answer: (B)", ["B"],
             ["green"]],
)  # fmt: skip
def test_the_letter_of_a_choice(gold: Any) -> None:
    assert read_gold(gold, None, COLOURS) == "B"


@pytest.mark.parametrize(
    ("gold", "question", "letter"),
    [
        ("C. blue", SHOWN, "C"),
        ("(C) blue", SHOWN, "C"),
        ("<answer>C. blue</answer>", SHOWN, "C"),
        ("Option C", SHOWN, "C"),
        ("C", SHOWN, "C"),
        ("(b) a dog", "What is it? (a) a cat (b) a dog", "B"),
        ("B. 蓝色", "选择颜色：A．红色 B．蓝色", "B"),
    ],
)
def test_the_letter_of_an_option_that_the_question_shows(gold: str, question: str, letter: str) -> None:
    assert read_gold(gold, None, (), question) == letter


@pytest.mark.parametrize(
    ("gold", "choices", "letter"),
    [
        ("None", ("1", "2", "None"), "C"),
        ("nan", ("nan", "0"), "A"),
        (True, ("Yes", "No"), "A"),
        (False, ("True", "False"), "B"),
        (5, ("3", "5", "7.5"), "B"),
        (7.5, ("3", "5", "7.5"), "C"),
        ("2", ("3", "2", "1", "0"), "B"),
        ("A", ("red", "red", "blue"), "A"),
        ("blue", ("red", "red", "blue"), "C"),
        ("Bb", ("BB", "Bb", "bb"), "B"),
        ("a", ("c", "b", "a"), "C"),
    ],
)
def test_golds_that_only_their_choices_explain(gold: Any, choices: tuple[str, ...], letter: str) -> None:
    assert read_gold(gold, None, choices) == letter


@pytest.mark.parametrize(
    ("gold", "choices", "said"),
    [
        (2, ("krill", "whale", "shrimp"), "choices may count from 0 or from 1: give the letter"),
        ("0", ("krill", "whale"), "choices may count from 0 or from 1: give the letter"),
        (2, ("3", "2", "1"), "the text of choice B and perhaps the number of another; give the letter"),
        ("red", ("red", "red", "blue"), "the text of choices A and B; give the letter"),
        ("B. red", ("red", "blue"), "this is the text of choice A; correct one of the two"),
        ("A", ("B", "A"), "a letter and the text of choice B"),
        ("D", ("a", "b"), "expected a letter A to B"),
        ("AX", COLOURS, "expected a letter A to C"),
        (["A", "C"], COLOURS, "found a list of 2 beside choices; give the letters in one text"),
        (["red", "<answer>5"], (), "which marks one and states none; give it alone"),
        ([5, 6], (), "found a list of 2; give texts where each is right"),
        (["red", ""], (), "found a list of 2; give texts"),
        ([str(number) for number in range(65)], (), "expected at most 64 short answers, found a list of 65"),
        (True, (), 'found true; write what the response must say, such as "yes" or "true"'),
        (True, ("red", "blue"), "found true; give the letter"),
        (float("inf"), (), "expected text or a finite number, found inf"),
        ('{"answer": 5}', (), "found an object as text; give the answer alone"),
        ({"value": 5}, (), "expected text or a number, found dict; give the answer alone"),
        ("None", (), "found 'None'"),
        ("C. Mixed", (), "as of an option C, but the row has no choices and its question shows none"),
        ("(B) blue car", (), "give 'choices', or the answer alone"),
        ("<answer>5", (), "which marks one and states none; give it alone"),
        ("<think>five", (), "which marks one and states none; give it alone"),
    ],
)
def test_golds_that_no_answer_can_match(gold: Any, choices: tuple[str, ...], said: str) -> None:
    with pytest.raises(RowError) as error:
        read_gold(gold, None, choices)
    assert said in str(error.value)


def test_the_text_of_another_option_that_the_question_shows() -> None:
    with pytest.raises(RowError, match="the question shows this as A; correct one of the two"):
        read_gold("B. red", None, (), SHOWN)


def test_a_text_stays_as_it_is_where_the_row_says_so() -> None:
    assert read_gold("E. coli", "text") == "E. coli"


@pytest.mark.parametrize(
    ("answer", "choices", "bare"),
    [
        ("red", (), ["red"]),
        ("<answer>red</answer>", (), ["red"]),
        ("1+1=2\n#### 2", (), ["2"]),
        ("B", ("red", "blue"), ["B", "blue"]),
        ("B", ("red", "blue", "blue"), ["B", "blue"]),
        ("A", ("<image>", "<image>"), ["A"]),
    ],
)
def test_the_shortest_right_responses(answer: str, choices: tuple[str, ...], bare: list[str]) -> None:
    assert bare_answers(answer, choices) == bare


def test_equal_choices_are_named_by_their_letter() -> None:
    sample = Sample("s", "Which?", answer="A", choices=("<image>", "<image>"))
    with Rewarder(RewardConfig()) as rewarder:
        grades = rewarder.grade([(sample, said) for said in ("\\boxed{A}", "The answer is option A.", "B", "")])
    assert [g.verdict for g in grades] == [Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER]


@pytest.mark.parametrize("gold", ["AC", "A, C", "A and C"])
def test_a_set_of_letters_stays_a_gold(gold: str) -> None:
    assert read_gold(gold, choices=COLOURS) == gold
    assert bare_answers(gold, COLOURS) == [gold]
