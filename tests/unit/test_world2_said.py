"""What completions say: the causes of the teacher's "Wait", first attempts, calibration, and kinds of mistakes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethink.world.questions import LETTERS
from seethink.world.v2.domains import DOMAINS
from seethink.world.v2.items import Item, Key, make_item
from seethink.world.v2.mistakes import KINDS, mistake
from seethink.world.v2.said import Attempt, calibration, first_attempts, take_apart
from seethink.world.v2.scene import LEVELS, Problem, Thing
from seethink.world.v2.source import to_sample


@cache
def drawn(domain: str) -> tuple[Item, ...]:
    return tuple(make_item(Key(3, "coldstart", "train", domain, level, i)) for level in LEVELS for i in range(6))


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_wait_has_its_cause(domain: str) -> None:
    """Told from the picture's record, without the code that wrote the trace."""
    for own in drawn(domain):
        causes = to_sample(own, "traces").meta["turns"]
        parts = re.split(r"[.] Wait,", own.thought.text)
        assert own.trace.count("Wait") == len(parts) - 1 == len(causes)
        for before, turn in zip(parts, causes, strict=False):
            assert before.endswith(turn["after"]), (before, turn)
        if own.problem.family == "search":
            assert {turn["cause"] for turn in causes} <= {"the sum misses"}
            assert len(causes) == misses(own.problem)
        elif own.problem.family == "looks":
            assert [(turn["cause"], turn["after"]) for turn in causes] == [
                ("the looks differ", f"{digit.name} {digit.value} and {dots.value}")
                for digit, dots in zip(own.problem.things[::2], own.problem.things[1::2], strict=True)
                if digit.value != dots.value
            ]
        else:
            assert not causes


def misses(problem: Problem) -> int:
    """Candidates in reading order before the first that makes the total; pairs that reach it too early are one."""
    size = {"two": 2, "three": 3}[problem.task]
    seen: set[tuple[int, ...]] = set()
    for some in combinations([thing.value for thing in problem.things], size):
        if sum(some) == problem.number:
            return len(seen)
        seen.add(some[:2] if sum(some[:2]) >= problem.number else some)
    raise AssertionError("no candidate makes the total")


def test_only_two_families_doubt() -> None:
    doubting = {d for d in DOMAINS if any("Wait" in item.trace for item in drawn(d))}
    assert doubting == {"search", "search_dusk", "dicesearch", "looks", "looks_dusk"}
    searches = [item for item in drawn("search") if item.key.level >= 3]
    assert all("Wait" in item.trace for item in searches)


def attempts_of(domain: str) -> list[Attempt]:
    return [attempt for item in drawn(domain) for attempt in first_attempts(item.problem, item.trace)]


def test_the_teacher_is_calibrated() -> None:
    """In a search it doubts exactly its misses; of two looks it doubts every wrong first one, and right ones where the
    other look is changed."""
    search = calibration(attempts_of("search"))
    assert (search.after_wrong, search.after_right) == (1, 0)
    assert min(search.num_wrong, search.num_right) >= 1
    looks = calibration(attempts_of("looks_dusk"))
    assert looks.after_wrong == 1
    assert 0.1 < looks.after_right < 0.4
    sums = calibration(attempts_of("sums"))
    assert (sums.num_wrong, sums.after_right) == (0, 0)
    assert math.isnan(sums.after_wrong)
    assert len(attempts_of("chains")) == len(drawn("chains"))


CARDS = (Thing("red", 4, (0,), "digits"), Thing("blue", 9, (3,), "digits"), Thing("green", 3, (6,), "digits"))


def item(problem: Problem, *choices: str) -> Item:
    return Item(Key(0, "eval", "test", "sums", 1, 0), problem, choices, "")


SUM = item(Problem(CARDS, "reckon", "terms", "What is ...?", "10", ("red", "blue", "green"), "+-"))
CHOICE = replace(SUM, choices=("13", "10", "16", "7"))
PAIR = item(
    Problem(CARDS, "search", "two", "Which two cards add to 7?", "red and green", ("red", "blue", "green"), "+", 7)
)
LARGER = item(Problem(CARDS, "compare", "larger", "Which is larger, ...?", "blue", ("red", "blue"), rivals=("red",)))
ABOVE = item(Problem(CARDS, "charts", "above", "How many bars are above 3?", "2", ("red", "blue", "green"), number=3))
LOOKS = item(
    Problem(
        (
            Thing("red", 4, (0,), "digits"),
            Thing("red", 4, (1,), "dots"),
            Thing("blue", 2, (3,), "digits", scratched=True),
            Thing("blue", 9, (2,), "dots"),
        ),
        "looks",
        "terms",
        "What is the red value plus the blue value?",
        "13",
        ("red", "blue"),
        "+",
    )
)
CHAIN = item(
    Problem(
        (
            Thing("red", 0, (0,), "arrows", "right"),
            Thing("blue", 0, (1,), "arrows", "down"),
            Thing("pink", 0, (4,), "arrows", "up"),
            Thing("teal", 0, (5,), "arrows", "left"),
        ),
        "chains",
        "end",
        "Follow 2 arrows from red. Where is the end?",
        "teal",
        ("red", "blue", "teal"),
        number=2,
    )
)
TWO = "I see red 4 and 4. blue 2 and"
RB = "</think>The answer is red and blue."
READ = "I see red 4, blue 9, green 3."

CASES = [
    (SUM, "I see red 4", "malformed"),
    (SUM, "<think>I see red 4, blue 9, green 3. 4 + 9 = 13", "malformed"),
    (SUM, f"<think>{READ} so 10.</think>", "malformed"),
    (SUM, "<think> </think>The answer is 9.", "malformed"),
    (SUM, "<think>I see red 4, blue 8, green 3. 4 + 8 = 12, 12 - 3 = 9. so 9.</think>The answer is 9.", "misread"),
    (SUM, "<think>I see red 4, blue 8, green 3. 4 + 8 = 13, 13 - 3 = 9. so 9.</think>The answer is 9.", "misread"),
    (SUM, "<think>I see red 4, blue 9. 4 + 9 = 13. so 13.</think>The answer is 13.", "not read"),
    (SUM, f"<think>{READ} 4 + 8 = 12, 12 - 3 = 9. so 9.</think>The answer is 9.", "copied wrongly"),
    (SUM, f"<think>{READ} 4 + 9 = 13, 13 - 0 = 13. so 13.</think>The answer is 13.", "copied wrongly"),
    (SUM, f"<think>{READ} 4 + 9 = 13, 12 - 3 = 9. so 9.</think>The answer is 9.", "copied wrongly"),
    (SUM, f"<think>{READ} 4 + 9 = 12, 12 - 3 = 9. so 9.</think>The answer is 9.", "computed wrongly"),
    (SUM, f"<think>{READ} 4 + 9 = 13. so 13.</think>The answer is 13.", "other"),
    (SUM, f"<think>{READ} 4 + 9 = 13, 13 - 3 = 10. so 10.</think>The answer is 9.", "option"),
    (CHOICE, f"<think>{READ} 4 + 9 = 13, 13 - 3 = 10. so 10 C.</think>The answer is C.", "option"),
    (CHOICE, f"<think>{READ} 4 + 9 = 13, 13 - 3 = 10. so 10 B.</think>The answer is A.", "option"),
    (PAIR, f"<think>{READ} 4 + 9 = 13. Wait, 4 + 3 = 8. so red and blue.{RB}", "computed wrongly"),
    (PAIR, f"<think>{READ} 4 + 5 = 9. so red and blue.{RB}", "copied wrongly"),
    (PAIR, f"<think>{READ} 4 + 9 = 13. so red and blue.{RB}", "other"),
    (PAIR, f"<think>I see red 4, green 3. 4 + 3 = 7. so red and blue.{RB}", "not read"),
    (PAIR, f"<think>{READ} 4 + 3 = 7. so green and red.</think>The answer is red and blue.", "option"),
    (LARGER, "<think>I see red 4, blue 9. 4 > 9. so red.</think>The answer is red.", "computed wrongly"),
    (LARGER, "<think>I see red 4, blue 9. 7 > 6. so red.</think>The answer is red.", "copied wrongly"),
    (LARGER, "<think>I see red 4, blue 3. 4 > 3. so red.</think>The answer is red.", "misread"),
    (ABOVE, f"<think>{READ} 4 > 3, 9 > 3, 3 > 3. so 3.</think>The answer is 3.", "computed wrongly"),
    (ABOVE, f"<think>{READ} 4 > 3, 9 > 3, 3 = 3. so 3.</think>The answer is 3.", "other"),
    (LOOKS, f"<think>{TWO} 8. Wait, the digit is scratched, blue 8. 4 + 8 = 12.</think>The answer is 12.", "misread"),
    (LOOKS, f"<think>{TWO} 9. Wait, the dots are scratched, blue 2. 4 + 2 = 6.</think>The answer is 6.", "other"),
    (LOOKS, "<think>I see red 4 and 4. 4 + 4 = 8. so 8.</think>The answer is 8.", "not read"),
    (CHAIN, "<think>I see red, right blue, up pink. so pink.</think>The answer is pink.", "misread"),
    (CHAIN, "<think>I see red, right teal, down teal. so teal.</think>The answer is pink.", "misread"),
    (CHAIN, "<think>I see red, right blue. so blue.</think>The answer is blue.", "not read"),
    (CHAIN, "<think>I see red, right blue, down teal. so teal.</think>The answer is blue.", "option"),
    (CHAIN, "<think>I see red, right blue, down teal, left pink. so pink.</think>The answer is pink.", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "completion", "kind"), CASES)
def test_kinds_of_mistakes(wrong: Item, completion: str, kind: str) -> None:
    assert mistake(wrong, completion) == kind


def test_every_kind_is_tested() -> None:
    assert {kind for *_, kind in CASES} == set(KINDS)
    assert {item.problem.family for item, *_ in CASES} == {f for domain in DOMAINS.values() for f in domain.families}


def test_a_slip_of_the_letter_is_told_in_every_domain() -> None:
    """The teacher's trace with another letter behind it."""
    for domain in DOMAINS:
        for own in drawn(domain):
            if own.choices:
                letter = next(letter for letter in LETTERS[: len(own.choices)] if letter != own.answer)
                assert mistake(own, own.trace.replace(f"is {own.answer}.", f"is {letter}.")) == "option", own.trace


def test_a_misread_value_is_told_in_every_domain() -> None:
    for domain in DOMAINS:
        if DOMAINS[domain].shows == ("arrows",):
            continue
        for own in drawn(domain)[::5]:
            changed = re.sub(r" (\d+)", lambda m: f" {int(m[1]) + 10}", own.trace, count=1)
            assert mistake(own, changed) == "misread", changed


FIRST = [
    (PAIR, f"<think>{READ} 4 + 9 = 13. Wait, 4 + 3 = 7. so red and green.</think>", [("4 + 9 = 13", False, True)]),
    (PAIR, f"<think>{READ} 4 + 3 = 7. so red and green.</think>", [("4 + 3 = 7", True, False)]),
    (PAIR, f"<think>{READ} 4 + 3 = 7. Wait, 9 + 3 = 12. so blue and green.</think>", [("4 + 3 = 7", True, True)]),
    (PAIR, f"<think>{READ} 5 + 2 = 7. so red and green.</think>", [("5 + 2 = 7", False, False)]),
    (PAIR, f"<think>{READ} so red and green.</think>", []),
    (SUM, f"<think>{READ} 4 + 9 = 13, 13 - 3 = 11. Wait, 13 - 3 = 10. so 10.</think>", [("11", False, True)]),
    (SUM, f"<think>{READ} 4 + 9 = 13, 13 - 3 = 10. so 10.</think>", [("10", True, False)]),
    (CHAIN, "<think>I see red, right blue, up pink. Wait, down teal. so teal.</think>", [("pink", False, True)]),
    (
        LOOKS,
        "<think>I see red 4 and 4. blue 2 and 9. Wait, the digit is scratched, blue 9. 4 + 9 = 13. so 13.</think>",
        [("red 4", True, False), ("blue 2", False, True)],
    ),
    (
        LOOKS,
        "<think>I see red 4 and 5. Wait, the dots are scratched, red 4. blue 2 and 9. so 6.</think>",
        [("red 4", True, True), ("blue 2", False, False)],
    ),
]


@pytest.mark.parametrize(("own", "completion", "expected"), FIRST)
def test_first_attempts(own: Item, completion: str, expected: list[tuple[str, bool, bool]]) -> None:
    assert first_attempts(own.problem, completion) == [Attempt(*each) for each in expected]


def test_a_completion_is_taken_apart() -> None:
    said = take_apart(f"<think>{READ} 4 + 9 = 13. Wait, 4 < 9. so red and green B.</think>The answer is B.")
    assert [(r.name, r.value) for r in said.readings] == [("red", 4), ("blue", 9), ("green", 3)]
    assert [(e.a, e.b, e.result, e.holds) for e in said.equations] == [(4, 9, 13, True)]
    assert said.comparisons == ((4, "<", 9),)
    assert (said.conclusion, said.letter, said.answer, len(said.waits)) == ("red and green", "B", "B", 1)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from([*READ.split(" "), "Wait,", "4", "+", "=", "so", "<think>", "</think>", "up", "\x00", "é"])
    )
)
def test_nothing_that_a_model_writes_breaks_the_parser(words: list[str]) -> None:
    text = " ".join(words)
    for own in (SUM, CHOICE, PAIR, LARGER, ABOVE, LOOKS, CHAIN):
        assert mistake(own, text) in KINDS
        first_attempts(own.problem, text)


@pytest.mark.parametrize("piece", ["red ", "4 + 9 = ", "so red and ", "<think>", "Wait ", "9" * 1000, "up red "])
def test_long_completions_take_linear_time(piece: str) -> None:
    assert mistake(SUM, "<think>" + piece * (200_000 // len(piece))) == "malformed"
