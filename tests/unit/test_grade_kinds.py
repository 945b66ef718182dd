# ruff: noqa: E501  (tables of cases read better with long lines)
"""What real answers look like, kind by kind: languages, letters, units, golds. Each kind with what must stay wrong."""

import pytest

from seethink.core.thinking import after_thinking, thinks
from seethink.core.types import Verdict
from seethink.rewards.grader import grade, validate_gold

COLOURS = ["red", "blue", "green", "black"]
FARBEN = ["红色", "蓝色", "绿色", "黑色"]


def right(response: str, gold: str, choices: list[str] | None = None) -> bool:
    return grade(response, gold, None, choices).verdict is Verdict.CORRECT


# Thinking


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),
        ("<reasoning>", "</reasoning>"),
        ("<Think>", "</Think>"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("◁think▷", "◁/think▷"),
    ],
)
def test_thoughts_of_every_dialect_are_no_answer(opening: str, closing: str) -> None:
    for thought in ("the answer is 7", "\\boxed{7}", "7"):
        assert grade(opening + thought, "7").verdict is Verdict.NO_ANSWER
        assert grade(f"{opening}{thought}{closing}\n", "7").verdict is Verdict.NO_ANSWER
        assert not right(f"{opening}{thought}{closing} 8", "7")
        assert right(f"{opening}not {thought}{closing} 7", "7")
        assert right(f"{thought}{closing} 7", "7")
    assert after_thinking(f"{opening}a{closing}b{opening}c") is None
    assert thinks(opening)
    assert not thinks("I think [so]")


# Languages


@pytest.mark.parametrize(
    "response",
    [
        "选C", "故选：C", "故選 C。", "因此选 C", "【答案】C", "答案：C", "答案是 C。", "答案选C", "正确答案是 C。",
        "正确选项为C", "正确选项是(C)", "选项 C 正确", "C选项正确", "应选 (C)", "C、绿色", "C．绿色", "综上所述，本题选 C",
        "答案是绿色。", "答案是「绿色」。", "答えはCです。", "正解：C", "정답: C", "정답은 C입니다.", "Respuesta: C",
        "La respuesta correcta es C.", "La bonne réponse est C.", "Réponse : C", "Die richtige Antwort ist C.",
        "A resposta é C.", "La risposta corretta è C.", "Ответ: C", "Правильный ответ: C", "Đáp án: C", "Jawaban: C",
        "الإجابة: C", "उत्तर: C", "Ｃ",
    ],
)  # fmt: skip
def test_answers_in_other_languages(response: str) -> None:
    assert right(response, "C", FARBEN)
    assert not right(response, "B", FARBEN)


@pytest.mark.parametrize(
    "response",
    [
        "不选C",
        "答案不是C",
        "选C是错的",
        "选B或C",
        "选B，不选C",
        "C是错误的",
        "La réponse n'est pas C.",
        "La respuesta no es C",
    ],
)
def test_denials_in_other_languages(response: str) -> None:
    assert not right(response, "C", FARBEN)


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("5 cm", "5厘米"), ("5厘米", "\\boxed{5 cm}"), ("12平方厘米", "\\boxed{12 cm^2}"), ("2 m^3", "2立方米"),
        ("45°", "45度"), ("45度", "\\boxed{45^\\circ}"), ("60 km/h", "60千米/时"), ("3", "答案是3个。"), ("12", "12個"),
        ("三", "3"), ("3", "三"), ("28", "二十八"), ("28%", "百分之28"), ("28%", "百分之二十八"), ("2/3", "三分之二"),
        ("30000", "3万"), ("3:2", "答案：3：2"), ("红色", "红色。"), ("rot", "Die Antwort ist rot."),
        ("12", "答案：１２"), ("7 cm", "7㎝"), ("25℃", "25 °C"),
    ],
)  # fmt: skip
def test_numbers_and_units_of_other_languages(gold: str, response: str) -> None:
    assert right(response, gold)


@pytest.mark.parametrize(
    ("gold", "response"), [("5 cm", "5毫米"), ("上海市", "上海"), ("正确", "错误"), ("三角形", "3"), ("45度", "45弧度")]
)
def test_other_units_and_words_are_wrong(gold: str, response: str) -> None:
    assert not right(response, gold)


# Letters


@pytest.mark.parametrize("gold", ["AC", "A,C", "A, C", "A and C", "A、C"])
@pytest.mark.parametrize("choices", [None, COLOURS])
def test_sets_of_letters(gold: str, choices: list[str] | None) -> None:
    for response in ("AC", "CA", "A, C", "C and A", "A、C", "(A)(C)", "\\boxed{A}, \\boxed{C}", "The answers are A and C.",
                     "\\boxed{\\text{A and C}}", "A C", "故选：AC", "A, C, not B", "A & C"):  # fmt: skip
        assert right(response, gold, choices), response
    for response in ("A", "C", "ABC", "A or C", "A-C", "A, B", "A, C, D", "ABCD", "not A, C", "B and D"):
        assert not right(response, gold, choices), response


def test_a_set_by_the_texts_of_its_options() -> None:
    assert right("red and green", "AC", COLOURS)
    assert right("A. red, C. green", "AC", COLOURS)
    assert not right("A. red, C. blue", "AC", COLOURS)
    assert not right("red or green", "AC", COLOURS)
    assert validate_gold("AC", None, COLOURS) == "AC"
    with pytest.raises(ValueError, match="A to D"):
        validate_gold("AE", None, COLOURS)


def test_one_letter_said_twice_is_one() -> None:
    assert right("C/C", "C", COLOURS)
    assert right("Answer: C and C", "C", COLOURS)
    assert not right("C/D", "C", COLOURS)


def test_lower_case_letters() -> None:
    for gold in "bB":
        assert right("b", gold, COLOURS)
        assert right("\\boxed{B}", gold, COLOURS)
        assert not right("c", gold, COLOURS)


@pytest.mark.parametrize("gold", ["C. Mixed", "(C) Mixed", "C) Mixed", "C: Mixed"])
def test_golds_with_letter_and_text_where_no_choices_are(gold: str) -> None:
    for response in ("C", "Option C", "C. Mixed", "C) Mixed", "Mixed", "\\boxed{C}", "C, because it has both"):
        assert right(response, gold), response
    for response in ("B", "D. Mixed", "C. Landscape", "Landscape", "C or D", "not C"):
        assert not right(response, gold), response


def test_options_with_equal_texts() -> None:
    options = ["red", "blue", "red"]
    assert validate_gold("C", None, options) == "C"
    assert right("C", "C", options)
    assert right("red", "C", options)
    assert right("C. red", "C", options)
    assert right("A", "C", options)
    assert not right("blue", "C", options)


@pytest.mark.parametrize(
    "response",
    [
        "It can't be A or B because those are too small, so it is C.", "A is wrong. B is wrong. C",
        "A and B are ruled out, leaving C.", "A, B and D are wrong; the answer must be C",
        "Conclusion: (C). Eliminated: (A), (B), (D).", "Not A. Not B. Therefore C.", "C rather than D",
        "**C. green**\n\nThe others do not match: A is red and B is blue.",
    ],
)  # fmt: skip
def test_an_option_chosen_after_others_are_ruled_out(response: str) -> None:
    assert [letter for letter in "ABCD" if right(response, letter, COLOURS)] == ["C"]


def test_an_option_whose_text_is_a_letter() -> None:
    options = ["B", "A", "Both A and B", "D/(B+D)"]
    assert right("Answer: (A) B", "A", options)
    assert right("(D) D/(B+D)", "D", options)
    assert not right("Answer: (A) B", "B", options)


def test_what_is_said_around_an_option_or_a_number() -> None:
    options = ["191.5", "2256", "20.25"]
    assert right("The area of the figure is 2256 square feet.", "B", options)
    assert right("The perimeter is 20.25, as shown in the image.", "C", options)
    assert not right("The area is not 2256 square feet.", "B", options)
    assert right("The share is **56%**.\n\nIs there anything else I can help you with?", "56")
    assert right(
        "The velocity is -130 km/h.\n\nI hope this helps! Let me know if you have any other questions.", "-130"
    )
    assert not right("It stayed the same until 2016.", "2016")


# Values


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("1000", "\\boxed{1 000}"), ("1234567", "The answer is 1 234 567."), ("1000.99", "1000,99"),
        ("1234.56", "\\boxed{1.234,56}"), ("3.5", "\\boxed{3,5}"), ("7", "\\boxed{\\text{The value is }7}"),
        ("12", "\\boxed{\\text{Area} = 12}"), ("12 cm", "\\boxed{\\text{The length is } 12 \\text{ cm}}"),
        ("5 m/s", "5\\,m\\,s^{-1}"), ("5 m/s", "\\boxed{5\\,\\mathrm{m\\,s^{-1}}}"), ("5 m/s", "5 ms^{-1}"),
        ("4200 J/(kg K)", "4.2 kJ kg^{-1} K^{-1}"), ("28%", "28 percentage points"), ("35°", "35º"), ("35掳", "35^\\circ"),
        ("\\frac12", "\\boxed{\\begin{aligned} x &= \\frac{1}{2} \\end{aligned}}"),
        ("2", "\\boxed{\\begin{aligned} x &= 1+1 \\\\ &= 2 \\end{aligned}}"), ("12", "\\boxed{S_{\\triangle ABC} = 12}"),
        ("\\frac12", "\\boxed{\\sin A = \\frac{1}{2}}"), ("2", "\\boxed{\\frac{AB}{CD} = 2}"),
        ("\\frac53", "\\boxed{\\frac53 \\approx 1.67}"), ("\\frac53", "The answer is 5/3 (about 1.67)."),
        ("\\frac53", "\\boxed{\\frac53} or 1.67"), ("1, 2", "$x = \\boxed{1}$ or $x = \\boxed{2}$"),
        ("\\pm 2", "\\boxed{2} or \\boxed{-2}"), ("1, 2", "\\boxed{1}\n\\boxed{2}"), ("True", "Yes"), ("yes", "true"),
        ("No", "False"), ("5-7 cm", "between 5 and 7 cm"), ("1945-1950", "1945 to 1950"), ("2024-01-02", "2024-1-2"),
        ("555-1234", "The number is 555-1234."), ("06/07/2023", "6/7/2023"), ("$5-$10", "5-10"),
    ],
)  # fmt: skip
def test_other_ways_to_write_a_value(gold: str, response: str) -> None:
    assert right(response, gold)


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("3.5", "\\boxed{3, 5}"), ("12500", "12,50"), ("7", "\\boxed{\\text{The value is not }7}"),
        ("7", "\\boxed{\\text{The value is half of }7}"), ("5 m/s", "5 m s^{-2}"), ("5ab", "5"), ("0", "x - 4 = 0"),
        ("5", "2x = 5"), ("6", "\\boxed{5 = 6}"), ("\\sqrt2", "\\boxed{\\sqrt2} or 1"), ("100", "\\boxed{100} or 101"),
        ("2024-01-02", "2024-02-01"), ("2024-01-02", "2021"), ("3-2", "2-1"), ("3-2", "1"), ("555-1234", "556-1235"),
        ("1945-1950", "1950-1955"), ("5-7 cm", "5-7 kg"), ("7:30-8:30", "8:30-7:30"), ("True", "No"), ("yes", "yes, no"),
        ("5", "negative 5"), ("5", "minus 5"), ("5", "\\neq 5"), ("5", "half of 5"), ("5", "more than 5"), ("5", "twice 5"),
        ("5", "at least 5"), ("5", "2 3 4 5"), ("5", "6 minus 5"), ("5", "5 is wrong"), ("5 cm", "5 cm is wrong"), ("5", "5不对"), ("red", "dark red"),
        ("red", "It is dark red."),
    ],
)  # fmt: skip
def test_what_only_looks_like_the_value_is_wrong(gold: str, response: str) -> None:
    assert not right(response, gold)


# Golds


@pytest.mark.parametrize(
    "gold", ["<answer>5</answer>", "The answer is \\boxed{5}", "2 + 3 = 5\n#### 5", "\\boxed{5}", "$\\boxed{5}$"]
)
def test_golds_are_taken_out_of_their_dress(gold: str) -> None:
    assert validate_gold(gold) == "5"
    assert right("<think>x</think> \\boxed{5}", gold)
    assert not right("6", gold)


@pytest.mark.parametrize("gold", ["['24/7', '3.429']", '["24/7", "3.429"]'])
def test_each_of_several_golds_is_right(gold: str) -> None:
    assert right("3.429", gold)
    assert right("\\frac{24}{7}", gold)
    assert not right("3", gold)
    assert not right("3 or 3.429", gold)


def test_a_list_of_letters_is_a_set_of_options() -> None:
    assert right("A, C", '["A", "C"]', COLOURS)
    assert not right("A", '["A", "C"]', COLOURS)


def test_none_is_a_gold_where_it_is_an_option() -> None:
    assert validate_gold("None", None, ["1", "2", "None"]) == "None"
    assert right("None", "None", ["1", "2", "None"])


@pytest.mark.parametrize("gold", [float("inf"), float("-inf"), float("nan")])
def test_golds_that_are_no_numbers_are_refused(gold: float) -> None:
    with pytest.raises(ValueError, match="expected text or a number"):
        validate_gold(gold)


# Values in Chinese sentences


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("所以x的值为１２．５。", "12.5"), ("所以一共有十二个。", "12"), ("面积是１０００平方米", "1000"),
        ("面积是1000平方米", "1000 m^2"), ("概率为三分之一。", "1/3"), ("所以周长为$12\\pi$。", "12\\pi"),
        ("小明今年12岁，爸爸是36岁。", "36"), ("答案为 2 或 -2", "2,-2"), ("x=2或x=-2", "2,-2"),
        ("所以∠1=∠2=35°．", "35"), ("\\angle 1 = \\angle 2 = 35^\\circ", "35"), ("\\boxed{\\angle 35^\\circ}", "35^\\circ"),
    ],
)  # fmt: skip
def test_values_in_chinese_sentences(response: str, gold: str) -> None:
    assert right(response, gold)


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("所以x的值不是12.5。", "12.5"), ("一共没有十二个。", "12"), ("至少有12个", "12"), ("面积可能是1000平方米", "1000"),
        ("是12还是13", "13"), ("x是12或13", "13"), ("x是12，不是13", "13"), ("如果x是12", "12"), ("大于等于12", "12"),
        ("答案为 2 或 -2", "-2"), ("面积是1000平方米", "1000 m"), ("∠1=35°, ∠2=45°", "35"),
    ],
)  # fmt: skip
def test_denied_and_open_values_in_chinese_sentences(response: str, gold: str) -> None:
    assert not right(response, gold)


# Units and angles in LaTeX


@pytest.mark.parametrize(
    ("response", "gold", "expected"),
    [
        ("\\boxed{10\\ \\mu m}", "10 micrometers", True),
        ("\\boxed{5\\,\\mu\\mathrm{m}}", "5 \\mu m", True),
        ("\\boxed{10\\ \\mu\\text{g}}", "10 micrograms", True),
        ("\\boxed{10\\ \\mu\\text{g}}", "10 mg", False),
        ("\\boxed{9.8\\ \\tfrac{m}{s^2}}", "9.8 m/s^2", True),
        ("\\boxed{9.8\\,\\frac{\\mathrm{m}}{\\mathrm{s}^2}}", "9.8 m/s^2", True),
        ("\\boxed{36\\,\\frac{\\text{km}}{\\text{h}}}", "10 m/s", True),
        ("\\boxed{9.8\\ \\tfrac{m}{s}}", "9.8 m/s^2", False),
        ("\\boxed{2\\frac{m}{s}}", "\\frac{2m}{s}", True),
        ("\\boxed{5\\ \\text{kg m}^2\\text{s}^{-2}}", "5 J", True),
        ("\\boxed{5\\ \\text{kg m}\\text{s}^{-2}}", "5 J", False),
        ("\\boxed{45^o}", "45°", True),
        ("The angle is $30^\\text{o}$.", "30°", True),
        ("\\boxed{45^o}", "54°", False),
        ("30°30'", "30.5°", True),
        ("\\boxed{30^{\\circ}30^{\\prime}}", "30.5°", True),
        ("The angle is 30°15'36''", "30.26°", True),
        ("30°30'", "30.3°", False),
        ("30°30'", "30°20'", False),
    ],
)
def test_units_and_angles_in_latex(response: str, gold: str, expected: bool) -> None:
    assert right(response, gold) is expected


@pytest.mark.parametrize(
    ("response", "golds", "others"),
    [
        ("The length is exactly 2π, or about 6.28.", ["2\\pi", "6.28"], ["3.14", "4\\pi", "6"]),
        ("The exact value is \\frac{\\pi}{4}, approximately 0.785.", ["\\frac{\\pi}{4}", "0.785"], ["0.7"]),
        ("It is about 1.41 (exactly $\\sqrt{2}$).", ["\\sqrt{2}"], ["2"]),
        ("结果约为 3.14（精确值为 π）", ["\\pi", "3.14"], ["3.2"]),
        ("The length is exactly 2π, or about 7.5.", [], ["2\\pi"]),
        ("The length is not exactly 2π, or about 6.28.", [], ["2\\pi"]),
    ],
)
def test_exact_values_with_their_decimals(response: str, golds: list[str], others: list[str]) -> None:
    assert all(right(response, gold) for gold in golds)
    assert not any(right(response, gold) for gold in others)
