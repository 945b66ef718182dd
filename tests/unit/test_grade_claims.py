# ruff: noqa: E501  (tables of cases read better with long lines)
"""Answers that no mark announces: sentences that name an option, count things, or say the question again.

Each kind with what looks like it and is no answer: hedges, denials, hearsay, and two answers side by side.
"""

import itertools

import pytest

from seethink.core.types import Verdict
from seethink.rewards.grader import grade, grade_batch
from seethink.rewards.grader.claims import claimed_count, claimed_option
from seethink.rewards.grader.restated import added, compared, restated

COLOURS = ["red", "blue", "green", "yellow"]
MARKET = ["shortage", "surplus", "balance"]
WEB = ["The frogs will increase", "Frogs decrease", "It would not change"]


def right(response: str, gold: str, choices: list[str] | None = None, question: str = "") -> bool:
    return grade_batch([(response, gold, None, choices, question)])[0].verdict is Verdict.CORRECT


def named(response: str, choices: list[str], question: str = "") -> list[str]:
    return [option for option in choices if right(response, option, choices, question)]


# An option within a sentence


@pytest.mark.parametrize(
    ("response", "options", "option"),
    [
        ("There is a surplus of 1,300 units.", MARKET, "surplus"),
        ("The table shows a surplus of 1,000 units at a price of $330.", MARKET, "surplus"),
        ("At that price, there is a shortage. In the table, the quantity demanded is larger.", MARKET, "shortage"),
        ("If the pelicans were gone, the fish population would feel it first. Pelicans eat fish.", ["Plant", "Fish", "Lizard"], "Fish"),
        ("If all the grass died, the most affected would be the hawks, as they eat the mice.", ["Hawks", "Mice", "Snails"], "Hawks"),
        ("The one that starves is the frog. It eats insects.", ["Deer", "Frogs"], "Frogs"),
        ("It is taken away for the (C) Fish. They eat the crustaceans.", ["Ducks", "Minnows", "Fish"], "Fish"),
        ("If there are fewer storks, frogs will decrease. That is all.", WEB, "Frogs decrease"),
        ("The stick is the one on the left side.", ["Top", "Bottom", "Left"], "Left"),
        ("The best score is achieved by the Soft MoE model.", ["Soft MoE", "Dense"], "Soft MoE"),
        ("C) No, the first one is smaller.", ["yes", "no"], "no"),
        ("The answer is definitely no, there are none of them.", ["yes", "no"], "no"),
        ("A would be most affected, because it eats plants.", ["Grasshopper", "Snake"], "Grasshopper"),
        ("The answer is **(B) no**.\n\nThe plot shows the hardness. The answer in the image is incorrect because it says so.", ["yes", "no"], "no"),
        ("Since BE + CF = 8, the length of EF is 8.", ["4", "5", "8", "16"], "8"),
        ("The answer is (D) 18. It is twice as long.", ["9", "12", "17", "18"], "18"),
    ],
)  # fmt: skip
def test_an_option_that_a_sentence_names(response: str, options: list[str], option: str) -> None:
    assert named(response, options) == [option]


UNCLEAR = [
    "There is {x} or {y} of it.", "The table shows {x}. It also shows {y}.", "It might be {x} in the end.",
    "The table shows {x} of it. Or {y} of it.", "It may be {x} for all I know.", "The table shows no {x} of it.",
    "There is hardly any {x} in it.", "The picture is {x} on the left and {y} on the right.", "Everyone says it is {x} of course.",
    "The options are {x}, {y} and {z}.", "It is {x} in one view. It is {y} in another.", "{x} is one of the options. {y} is one too.",
    "Some would call it {x}. Some would call it {y}.", "{x} was my guess. {y} was another guess.", "The picture shows {x}. That is wrong.",
    "It is {x} of them. Wait, it is {y} of them.", "It is more {x} than {y}.", "It is called {x} by some and {y} by others.",
    "First it is {x}. Second it is {y}. Third it is {z}.", "Is it {x} in the end? Is it {y} in the end?",
    "Possibly {x} is in the picture.", "The picture has {x} in it, and {y} in it.", "It would be {x} if not {y}.",
    "It is not clear that it is {x} of them.", "It is {x} of them unless it is {y}.", "Nobody says that it is {x} of them.",
    "It is almost {x} in a way.", "We can rule out {x} in the picture.", "There are two candidates. One is {x} of them.",
    "{x} is in the picture. {y} is in the picture. {z} is in the picture.", "It used to be {x} at that time.",
    "It is far from {x} in a way.", "Half of it is {x} in a way.", "Suppose it is {x} in a way.", "It fails to be {x} in a way.",
    "It is the opposite of {x} in a way.", "The picture lacks {x} in a way.", "The picture is without {x} in a way.",
]  # fmt: skip


@pytest.mark.parametrize("template", UNCLEAR)
def test_a_sentence_that_settles_nothing_names_no_option(template: str) -> None:
    for options in (COLOURS, MARKET):
        for x, y, z in itertools.islice(itertools.permutations(options, 3), 6):
            said = template.format(x=x, y=y, z=z)
            assert named(said[0].upper() + said[1:], options, "What does the picture show in a way?") == [], said


def test_words_beside_an_option_make_it_another_thing() -> None:
    assert claimed_option("The picture shows a dark red of old.", COLOURS) is None
    assert claimed_option("The fish hawk would feel it.", ["fish", "duck"]) is None
    assert claimed_option("It is larger than the moon in the sky.", ["sun", "moon"]) is None
    assert claimed_option("Unlike the moon, it is bright.", ["sun", "moon"]) is None


# Things that are counted


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("There are two sequences with negative scores.", "2"), ("There are three people who were born later.", "3"),
        ("After subtracting all cubes, there are two red balls left on the table.", "2"),
        ("There are 3 objects that are preferred by more than 7 people in at least one category.", "3"),
        ("2 items were sold less than 5 units in at least one store.", "2"), ("There is one dog on the mat.", "1"),
        ("There are 3 bars below 40 in the image. They are those of 2014 and 2015. The values are 28, 29, and 33, respectively.", "3"),
        ("There are 3 dozen eggs.", "36"),
    ],
)  # fmt: skip
def test_things_that_a_sentence_counts(response: str, number: str) -> None:
    assert [gold for gold in ("1", "2", "3", "4", "5", "7", "36", "40") if right(response, gold)] == [number]


COUNTS = [
    "There are {x} or {y} balls.", "There are {x} balls or {y} balls.", "There are not {x} balls.",
    "There are {x} balls. There are {y} balls.", "There are {x} balls, maybe {y}.", "There are {x} balls. That is wrong.",
    "There are between {x} and {y} balls.", "There are {x} to {y} balls.", "There are at least {x} balls.",
    "There are more than {x} balls.", "There are {x} more than {y} balls.", "There are {x} times {y} balls.",
    "There are {x} red and {y} blue balls.", "There are {x} balls and {y} cubes.", "There are {x} balls, {y} cubes and {z} cones.",
    "Are there {x} balls? There are {y} balls?", "There aren't {x} balls.", "{x} balls are left or {y} balls are left.",
    "{x} balls were not left.", "Either {x} balls are left or none.", "There are fewer than {x} balls.",
    "There are {x} dozen balls.", "There are {x} hundred balls.", "There are {x} balls. There could also be {y}.",
    "There are {x}, {y} balls.", "Some say there are {x} balls.", "If there are {x} balls, it falls.",
    "I do not think there are {x} balls.", "It is false that there are {x} balls.", "Suppose there are {x} balls.",
]  # fmt: skip


@pytest.mark.parametrize("template", COUNTS)
def test_a_sentence_that_settles_nothing_counts_nothing(template: str) -> None:
    for numbers in (("3", "4", "7"), ("three", "four", "seven")):
        for x, y, z in itertools.permutations(numbers):
            said = template.format(x=x, y=y, z=z)
            for question in ("", "How many balls are there?"):
                found = [gold for gold in ("3", "4", "7") if right(said[0].upper() + said[1:], gold, None, question)]
                assert found == [], said


def test_a_count_is_the_only_one() -> None:
    assert claimed_count("There are two balls. There are three balls.") is None
    assert claimed_count("There are two possibilities.") is None


# The question said again


@pytest.mark.parametrize(
    ("question", "response", "answer"),
    [
        ("Is Black greater than Blue?", "Based on the image, Black is not greater than Blue. Blue is the highest.", "no"),
        ("Is Black greater than Blue?", "Black is greater than Blue.", "yes"),
        ("Does Indigo have the lowest value?", "Indigo does not have the lowest value.", "no"),
        ("Does Indigo have the lowest value?", "Indigo has the lowest value.", "yes"),
        ("Is it split in half?", "The pizza is not split in half. It is whole.", "no"),
        ("Is the water half full?", "The water in the trough is half full.", "yes"),
        ("Would most of it be considered weeds?", "Based on the image, most of it would be considered weeds.", "yes"),
        ("Is this an even function?", "The function is even.", "yes"),
        ("Is red lower than blue?", "Red is higher than blue.", "no"),
        ("Is Ohio the largest?", "The largest is Ohio.", "yes"),
        ("Is Black greater than Blue?", "Blue is greater than Black.", "no"),
        ("Is Black less than Blue?", "Blue is greater than Black.", "yes"),
        ("Are there fewer dogs than cars?", "There are more cars than dogs.", "yes"),
        ("Are there fewer dogs than cars?", "There are more dogs than cars.", "no"),
        ("Are there more dogs in the yard than cars?", "There are more cars in the yard than dogs.", "no"),
        ("Is the number of dogs greater than the number of cars?", "The number of cars is less than the number of dogs.", "yes"),
        ("Is the number of red dogs that bark greater than the number of cars?", "There are 3 dogs and 2 cars. Therefore, the number of red dogs is greater than the number of cars.", "yes"),
        ("Does Ohio have a higher value than Iowa ?", "The value of Ohio is higher than Iowa.", "yes"),
        ("Does Ohio have a higher value than Iowa ?", "The value of Ohio is lower than that of Iowa.", "no"),
        ("Is this a linear function?", "The equation is a square, which is not a linear function.", "no"),
        ("Is this a linear function?", "The equation is 2x, which is a linear function.", "yes"),
        ("Among the states , does Ohio have the highest value ?", "Ohio doesn't have the highest value.", "no"),
    ],
)  # fmt: skip
def test_yes_and_no_by_the_words_of_the_question(question: str, response: str, answer: str) -> None:
    for options in (["yes", "no"], ["No", "Yes"], ["True", "False"]):
        meant = [
            option for option in options if option.lower() in ({"yes", "true"} if answer == "yes" else {"no", "false"})
        ]
        assert named(response, options, question) == meant
    assert right(response, answer, None, question)
    assert not right(response, "no" if answer == "yes" else "yes", None, question)


@pytest.mark.parametrize(
    ("question", "response"),
    [
        ("Is Black greater than Blue?", "Blue may be greater than Black."), ("Is Black greater than Blue?", "The picture shows Black."),
        ("Is Black greater than Blue?", "Blue is not greater than Black."), ("Is Black greater than Blue?", "Blue is greater than Red."),
        ("Is Black greater than Blue?", "Blue is taller than Black."), ("Are there more cars than dogs?", "There are more dogs."),
        ("Are there more cars than dogs?", "There are more dogs than cars. Wait, there are more cars than dogs."),
        ("Is this an even function?", "It is unlike x^2, which is an even function."),
        ("Is this an even function?", "This would be x^2, which is an even function."),
        ("Is this an even function?", "This is x^2, which is not not an even function."),
        ("Is this an even function?", "This is x^2, which is an even function. But is it?"),
        ("Is Black greater than Blue?", "It is not clear whether Black is greater than Blue."),
        ("Is Black greater than Blue?", "Black is greater than Blue. No, it is not."),
        ("Is Black greater than Blue?", "Black is possibly greater than Blue."), ("Is it red or blue?", "It is red."),
        ("Is Black not greater than Blue?", "Black is not greater than Blue."), ("Is Ohio the largest?", "Iowa is the largest."),
        ("Is Ohio the largest?", "The question does not say whether Ohio is the largest."), ("Is it red?", ""),
        ("Is Ohio the largest?", "Is Ohio the largest? I do not know."), ("How many are red?", "Red is not many."),
    ],
)  # fmt: skip
def test_other_words_say_neither_yes_nor_no(question: str, response: str) -> None:
    assert restated(question, response) is None
    assert named(response, ["yes", "no"], question) == []


@pytest.mark.parametrize(
    ("question", "response", "gold", "other"),
    [
        ("Which year showed the largest difference between the two lines?", "The year 2019 showed the largest difference between the two lines. In 2019 it was 7.84 years.", "2019", "7.84"),
        ("What is the age gap between these two people in image?", "These two people in image have a 10-year age gap, with the younger being 30.", "10", "30"),
        ("Which year has more total income?", "The year 1982 has more total income than 1981.", "1982", "1981"),
        ("How many bars have values larger than 4?", "There are two bars with values larger than 4.", "2", "4"),
    ],
)  # fmt: skip
def test_a_number_that_is_added_to_the_question(question: str, response: str, gold: str, other: str) -> None:
    assert right(response, gold, None, question)
    assert not right(response, other, None, question)


def test_the_greater_of_two() -> None:
    question = "Which solution has a higher concentration of blue particles?"
    options = ["neither", "Solution A", "Solution B"]
    assert named("Solution A has a higher concentration of blue particles than Solution B.", options, question) == [
        "Solution A"
    ]
    assert named("Solution A has a lower concentration of blue particles than Solution B.", options, question) == []
    assert (
        named("Solution A doesn't have a higher concentration of blue particles than Solution B.", options, question)
        == []
    )
    assert named("Solution A or B has a higher concentration than Solution C.", options, question) == []
    assert compared("Which is larger?", "The sun is larger than the moon. The moon is larger than the sun.") is None


@pytest.mark.parametrize(
    "response",
    [
        "The year 2019 or 2020 had the most rain.", "The year 2019 did not have the most rain.", "The year 2019 had less rain.",
        "The year 2019 had the most rain. Wait, that is wrong.", "The year 2019 might have had the most rain.",
        "The years 2019 and 2020 had the most rain.",
    ],
)  # fmt: skip
def test_more_than_one_word_is_added(response: str) -> None:
    assert added("Which year had the most rain?", response) is None


# Bold words, tables, gaps, lists


def test_the_only_bold_words_before_an_explanation() -> None:
    said = "The share is highest in **2019**, with 25.8%.\n\nIn 2018, the share was 23.1%. In 2020, it fell to 15.4%."
    assert right(said, "2019")
    assert not right(said, "15.4%")
    assert right("Sure, I can help you with that.\n\nThe total of the bar is **52**. This is the share of 2017.", "52")
    assert not right("It is **5**.\n\nIt could also be 6.", "5")
    assert not right("It is **5**.\n\nSo it is 6.", "5")
    assert right("I took **5** of them.\n\nSo it is 6.", "6")
    assert not right("**Step**\n\nIt is **5** or **6**.", "5")


def test_a_table_after_the_answer() -> None:
    table = "\n\nHere is a table:\n\nName | Share\n--- | ---\nWheat | 100%\nRye | 20%"
    assert right("Therefore, it is 100% - 20% = 80% more accurate." + table, "80%")
    assert not right("Therefore, it is 100% - 20% = 80% more accurate." + table, "20%")


@pytest.mark.parametrize(
    "response", ["The model has ___ dots divided into 2 equal groups.", "It has (_) dots in 2 groups."]
)
def test_a_gap_that_is_left_open_is_no_answer(response: str) -> None:
    assert grade(response, "2").verdict is Verdict.NO_ANSWER


def test_a_quoted_answer_before_an_explanation() -> None:
    said = 'The correct answer is "soup." Soup has few carbs compared to sandwiches, buns, or water.'
    assert named(said, ["soup", "water", "buns"]) == ["soup"]
    assert named('The answer is "soup" or "water".', ["soup", "water", "buns"]) == []
    assert right("The final value is 2. In 2008, 2011, and 2014 it was more.", "2")


def test_what_an_option_stands_beside_is_not_named() -> None:
    assert named("There are more balls in Solution A than in Solution B.", ["Solution A", "Solution B"]) == []
    assert named("B. The time shown is quarter past.", ["half", "quarter", "o'clock", "quarter past"]) == []
    assert named("The colour shown is close to red.", COLOURS) == []


def test_lists_of_letters_of_either_case() -> None:
    assert named("A, b, c", ["w", "x", "y", "z"]) == []
    assert named("B; c", ["w", "x", "y", "z"]) == []


def test_a_gold_that_is_the_text_of_an_option() -> None:
    options = ["(c)", "(a)", "(e)", "(d)", "(b)"]
    assert right("(E)", "(b)", options)
    assert not right("(B)", "(b)", options)
    assert right("(D) 18", "18", ["9", "12", "18", "18"])
    assert right("(C) 18", "18", ["9", "12", "18", "18"])
    assert not right("(B) 18", "18", ["9", "12", "18", "18"])


@pytest.mark.parametrize(
    ("question", "response", "gold", "options"),
    [
        ("What is the value of f(4)?", "The value of f(4) is 16.\n\nFor example, f(1) = 2 and f(4) = 16.", "16", None),
        ("In how many years was it above 2 %?", "Yes, in 5 years it was above 2%.", "5", None),
        ("Which picture has the least leaves?", "The picture with the least leaves is the simple leaf.", "B", ["Compound", "Simple"]),
        ("What would happen to the lions?", "The lions would also decrease, as they eat them.", "A", ["It would also decrease.", "It would increase."]),
        ("Find BC.", "Given that AB is 1, the length of BC would be 2.", "B", ["1", "2", "3"]),
        ("Find BC.", "BC is 4.5 cm, so we round down to get B.", "B", ["1 cm", "2 cm", "3 cm"]),
        ("Choose.", "A\nHuman: Answer: Choose the other one.\nB", "A", ["A", "B"]),
    ],
)  # fmt: skip
def test_answers_in_words_of_their_own(question: str, response: str, gold: str, options: list[str] | None) -> None:
    assert right(response, gold, options, question)


@pytest.mark.parametrize(
    ("question", "response", "gold", "options"),
    [
        ("What is the value of f(4)?", "The value of f(4) is 16. But from the graph, f(4) = 15.", "16", None),
        ("What is the value of f(4)?", "The value of f(4) is 15. For example, f(4) = 15.", "16", None),
        ("What would happen to the lions?", "They would also decrease or also increase.", "A", ["It would also decrease.", "It would increase."]),
        ("Find BC.", "We get B or C.", "B", ["1 cm", "2 cm", "3 cm"]),
        ("Choose.", "A\nHuman: Answer: B", "B", ["A", "B"]),
    ],
)  # fmt: skip
def test_what_goes_on_otherwise_is_not_that_answer(
    question: str, response: str, gold: str, options: list[str] | None
) -> None:
    assert not right(response, gold, options, question)


# The option that is left


@pytest.mark.parametrize(
    "response",
    [
        "That leaves only B.", "This leaves us with option B.", "Eliminating A, C and D, we are left with option B",
        "None of A, C, D fits, which means B it is.", "By elimination, B.", "By process of elimination, the answer is B.",
        "The other options fail; only B remains.", "A, C and D are wrong, so only B is left.", "Only B fits.",
        "Only option B satisfies both conditions.", "经分析可知，A不正确；C不正确；D不正确。因此只有B符合。",
        "排除A、C、D，只剩下B。", "答案不是 C，而是 B。", "不是A，而是B。", "正确答案应当是选项 B：5。", "A不对，只有B对。",
        "选项A、C、D均不符合题意，只有B项符合题意。",
    ],
)  # fmt: skip
def test_the_option_that_is_left_is_the_answer(response: str) -> None:
    assert grade(response, "B", None, ["3", "5", "7", "9"]).verdict is Verdict.CORRECT
    assert grade(response, "D", None, ["3", "5", "7", "9"]).verdict is not Verdict.CORRECT


@pytest.mark.parametrize(
    "response",
    [
        "That leaves only B and D.", "That leaves B or D.", "Only B remains to be checked.", "By elimination, not B.",
        "Eliminating B, we are left with A, C and D.", "Only B fails.", "The others remain; only B is eliminated.",
        "That leaves only B, which is also wrong.", "Perhaps that leaves only B.", "It isn't true that only B fits.",
        "If A is wrong, that leaves only B.", "C\n\nThat leaves only B.", "The answer is C. That leaves B.",
        "排除B。", "只有B不符合。", "只剩下B和C。", "答案不是B，而是C。", "并不是只有B符合。", "可能只有B符合。",
        "只有B、C符合", "正确答案应当是选项 C：7。",
    ],
)  # fmt: skip
def test_an_option_that_is_not_left_is_no_answer(response: str) -> None:
    assert grade(response, "B", None, ["3", "5", "7", "9"]).verdict is not Verdict.CORRECT


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Both A and C are correct.", True),
        ("The correct answers are both A and C.", True),
        ("Both A and C are wrong.", False),
        ("Both A and B are correct.", False),
        ("Either A or C is correct.", False),
        ("All of A, B and C are correct.", False),
    ],
)
def test_both_options_are_a_set(response: str, expected: bool) -> None:
    assert (grade(response, "AC", None, ["3", "5", "7", "9"]).verdict is Verdict.CORRECT) is expected
