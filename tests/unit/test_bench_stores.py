"""Stored answers: names, order, torn lines; what counts as the answer; how answers are graded."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.benchmarks import small
from seethink.core.errors import UserError
from seethink.core.types import Verdict
from seethink.eval.bench.benchmark import Item
from seethink.eval.bench.generations import PROTOCOLS, Generation, Settings, generation_key, prompt_digest
from seethink.eval.bench.grades import BenchGrader
from seethink.eval.bench.grading import only_number
from seethink.eval.tasks.mme_puzzles import LETTERS, hashi, points24, skyscraper, yinyang
from seethink.eval.tasks.mme_reasoning import solved
from seethink.runs.keyed_lines import KeyedLines


def answered(text: str, finish: str = "stop", reasoning: str = "") -> str | None:
    return Generation("k", "i", 0, text, reasoning, finish, 1).answer  # type: ignore[arg-type]


def test_the_answer_is_what_follows_the_thinking() -> None:
    assert answered("<think>A or B</think>\nB") == "\nB"
    assert answered("A or B</think> B") == " B"  # the template opened the thought
    assert answered("It is B") == "It is B"
    assert answered("<think>A or") is None
    assert answered("B", reasoning="A or B") == "B"


def test_what_the_limit_cut_off_is_an_answer_only_behind_a_closed_thought() -> None:
    assert answered("so it is \\boxed{B} or", "length") is None  # a thought may have been opened by the template
    assert answered("<think>x</think> So B, beca", "length") == " So B, beca"
    assert answered("So B, beca", "length", reasoning="x") == "So B, beca"
    assert answered("", "length", reasoning="x and") is None
    assert answered("I will not", "refused") is None


def test_an_answers_name_depends_on_everything_it_depends_on() -> None:
    item = Item("i", "Why?", "A")
    settings = PROTOCOLS["paper"]
    key = generation_key({"weights": "w"}, prompt_digest(item), settings, 3, 0)
    others = {
        generation_key({"weights": "v"}, prompt_digest(item), settings, 3, 0),
        generation_key({"weights": "w"}, prompt_digest(replace(item, question="What?")), settings, 3, 0),
        generation_key({"weights": "w"}, prompt_digest(replace(item, system="Be brief.")), settings, 3, 0),
        generation_key({"weights": "w"}, prompt_digest(item), replace(settings, temperature=0.7), 3, 0),
        generation_key({"weights": "w"}, prompt_digest(item), replace(settings, seed=1), 3, 0),
        generation_key({"weights": "w"}, prompt_digest(item), settings, 4, 0),
        generation_key({"weights": "w"}, prompt_digest(item), settings, 3, 1),
    }
    assert key not in others
    assert len(others) == 7
    assert generation_key({"weights": "w"}, prompt_digest(item), replace(settings, runs=9), 3, 0) == key
    assert (settings.temperature, settings.runs, settings.max_new_tokens) == (1.0, 5, 16384)


def test_a_store_survives_a_cut_at_every_byte(tmp_path: Path) -> None:
    records = [{"key": f"k{i}", "text": "é\n" * i} for i in range(5)]
    whole = KeyedLines(tmp_path / "whole.jsonl")
    whole.append(records)
    whole.close()
    content = (tmp_path / "whole.jsonl").read_bytes()
    for cut in range(len(content) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        store = KeyedLines(path)
        store.append(one for one in records if one["key"] not in store)
        store.put_in_order([one["key"] for one in records])
        assert list(store.read(["k3", "k0"])) == [records[3], records[0]]
        store.close()
        assert path.read_bytes() == content


def test_a_store_is_put_in_order_and_keeps_what_was_written_last(tmp_path: Path) -> None:
    store = KeyedLines(tmp_path / "a.jsonl")
    keys = [f"k{i}" for i in range(20)]
    mixed = random.Random(0).sample(keys, 20)
    store.append({"key": key, "n": 0} for key in mixed)
    store.append([{"key": "k7", "n": 1}, {"key": "gone", "n": 2}])
    store.put_in_order(keys)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == keys
    assert lines[7]["n"] == 1
    store.append([{"key": "later", "n": 3}])
    assert [one["n"] for one in store.read(["later", "k7"])] == [3, 1]
    store.close()


def test_damaged_lines_are_left_out_and_other_files_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"key": "a"}\nnot json\n[1]\n{"key": 3}\n{"key": "b"}\n')
    store = KeyedLines(tmp_path / "a.jsonl")
    assert list(store.keys()) == ["a", "b"]
    store.close()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be used"):
        KeyedLines(tmp_path / "folder")


# ---- grading ----


def verdicts(name: str, *pairs: tuple[Item, str]) -> list[str]:
    return [str(grade.verdict) for grade in small(name).grade(list(pairs))]


def test_yes_and_no() -> None:
    yes = Item("i", "Is it red?", "Yes")
    texts = (
        "Yes, it is.",
        "No.",
        "\\boxed{Yes}",
        "The answer is yes.",
        "It looks red to me and wide.",
        "Yes. No. Yes?",
    )
    found = verdicts("hallusionbench", *((yes, text) for text in texts))
    assert found[:5] == ["correct", "wrong", "correct", "correct", "no_answer"]
    assert found[5] != "correct"


def test_mathvista_rounds_to_the_items_precision_and_only_floats() -> None:
    number = Item("i", "How long?", "1.2", meta={"precision": 1})
    whole = Item("i", "How many?", "5", meta={"precision": None})
    found = verdicts(
        "mathvista", (number, "It is 1.23 cm."), (number, "1.26"), (number, "between 1.1 and 1.2"), (whole, "5.0"),
        (whole, "5.4"), (Item("i", "Which?", "[1, 2, 3]", meta={"precision": None}), "[1, 2, 3]"),
    )  # fmt: skip
    assert found == ["correct", "wrong", "wrong", "correct", "wrong", "correct"]


def test_seephys_compares_significant_figures() -> None:
    three = Item("i", "How far?", "3.14 \\times 10^{8} m", meta={"digits": 3})
    none = Item("i", "How far?", "3.14", meta={"digits": None})
    found = verdicts(
        "seephys", (three, "\\boxed{3.1416 \\times 10^8 m}"), (three, "\\boxed{3.15 \\times 10^8 m}"),
        (none, "\\boxed{3.19}"), (none, "\\boxed{3.14}"),
    )  # fmt: skip
    assert found == ["correct", "wrong", "wrong", "correct"]
    assert only_number("9.81 m s^{-2}") == only_number("9.81")
    assert only_number("\\frac{3}{4}") is None


def test_a_gold_that_nothing_matches_is_wrong_and_stays() -> None:
    bad = Item("i", "Which?", "Z", choices=("a", "b"))
    (grade,) = small("mmstar").grade([(bad, "\\boxed{A}")])
    assert grade.verdict is Verdict.WRONG
    assert "cannot be matched" in grade.reason


SUDOKU = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]
BASE = [[1, None, None, None], [None] * 4, [None] * 4, [None] * 4]


def puzzle(function: str, special: object, answer: object = "") -> Item:
    gold = json.dumps(answer) if answer else ""
    return Item("i", "Solve.", gold, meta={"function": function, "special": json.dumps(special) if special else ""})


def test_puzzles_take_any_valid_solution_and_run_nothing() -> None:
    sudoku = puzzle("calculate_answer_function_sudoku_4", {"base_matrix": BASE})
    changed = [[2, 1, 3, 4], [3, 4, 1, 2], [1, 2, 4, 3], [4, 3, 2, 1]]
    cards = puzzle("judge_24points_function", {"init_cards": [4, 6, 1, 1]})
    found = verdicts(
        "mme-reasoning",
        (sudoku, f"So:\n```json\n{SUDOKU}\n```"), (sudoku, f"The answer is {changed}"), (sudoku, "[[1, 2], [2, 1]]"),
        (sudoku, "I cannot solve it."), (cards, "\\boxed{4*6*1/1 = 24}"), (cards, "\\boxed{4*6 = 24}"),
        (cards, "\\boxed{__import__('os').getpid()}"), (cards, "\\boxed{9**9**9}"),
    )  # fmt: skip
    assert found == ["correct", "wrong", "wrong", "no_answer", "correct", "wrong", "wrong", "wrong"]


def test_puzzles_by_their_rules() -> None:
    towers = {"base_matrix": [[None] * 3] * 3, "visible_skyscrapers": [[3, 2, 1], [3, 2, 1], [1, 2, None], [1, 2, 2]]}
    grid = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
    assert skyscraper(grid, towers) is True
    assert skyscraper(grid[::-1], towers) is False
    assert skyscraper([[1, 2, 3]] * 3, towers) is False
    colours = {"base_matrix": [[None] * 3] * 3}
    assert yinyang([[0, 0, 0], [0, 1, 1], [1, 1, 0]], colours) is False  # the last 0 stands alone
    assert yinyang([[0, 0, 0], [0, 1, 0], [1, 1, 1]], colours) is True
    assert yinyang([[0, 0, 1], [0, 0, 1], [1, 1, 1]], colours) is False  # a block of one colour
    islands = {"init_islands": [{"cord": "a1", "requirement": 2}, {"cord": "a3", "requirement": 3},
                                {"cord": "c3", "requirement": 1}]}  # fmt: skip
    bridges = [{"start": "a1", "end": "a3", "number": 2}, {"start": "c3", "end": "a3", "number": 1}]
    assert hashi(bridges, islands) is True
    assert hashi(bridges[:1], islands) is False
    assert hashi([{**bridges[0], "number": 3}, bridges[1]], islands) is False
    assert points24("(4 + 2) * (8 - 4)", {"init_cards": [4, 2, 8, 4]}) is True
    assert points24("8 / (3 - 8 / 3)", {"init_cards": [8, 3, 8, 3]}) is True
    triangle = dict(zip("ABCDEF", (1, 5, 4, 3, 2, 4), strict=True))
    assert LETTERS["2"](dict(zip("ABCDEF", (5, 10, 10, 5, 0, 15), strict=True))) is True
    assert LETTERS["10"](triangle) is False
    assert LETTERS["12"]({"C": 9, "A": 5, "T": 6, "D": 0, "O": 7, "G": 3, "P": 1, "E": 0, "S": 2}) is False


def test_matched_answers() -> None:
    assert solved("match_answer_function", {"a": ["x", "Y"]}, {"a": ["y", "x"]}, None)
    assert not solved("match_answer_function", {"a": ["x"]}, {"a": ["y", "x"]}, None)
    assert solved("match_coordinate_function", [{"row": 1, "column": "B"}], {"row": "1", "column": "B"}, None)
    assert solved("multiple_match_function", {"k": [3, 1]}, [[1, 3], [2]], None)
    assert solved("compare_expression_function", {"equation": "3*2+1=7"}, ["1+3*2=7"], None)
    assert not solved("compare_expression_function", {"equation": "3-2=1"}, ["2-3=1"], None)


def test_grades_say_by_what_and_why() -> None:
    benchmark, item = small("logicvista"), Item("i", "Which?", "B", options=4)
    given = [("B", "stop"), ("so B and", "length"), ("", "refused"), ("", "not_asked"), ("<think>B", "stop")]
    pairs = [(item, Generation(str(n), "i", 0, text, "", finish, 7, "x" if finish == "not_asked" else ""))  # type: ignore[arg-type]
             for n, (text, finish) in enumerate(given)]  # fmt: skip
    grader = BenchGrader()
    found = grader.grade(benchmark, pairs)
    assert [(one.verdict, one.by) for one in found] == [("correct", "rule")] + [("no_answer", "format")] * 4
    assert [one.reason for one in found[1:]] == [
        "cut off before an answer", "refused", "not asked: x", "a thought that never ends",
    ]  # fmt: skip
    assert grader.identity(benchmark) != grader.identity(replace(benchmark, version="2"))
    assert Settings().sampling()["max_new_tokens"] == 16384
