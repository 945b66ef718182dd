"""SFT's data: which rows validate, that no question stands on both sides, and traces that the model cannot hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.rows import png, write_jsonl
from seethink.config import Recipe, RewardConfig, make_recipe
from seethink.core.types import Sample
from seethink.data.order import held_out, question_key, whole_questions
from seethink.data.quarantine import DataError, Quarantine
from seethink.rewards.rewarder import Rewarder
from seethink.train.sft import Traces
from seethink.train.traces import load_traces

Row = dict[str, Any]


class WordChat:
    """A chat whose tokens are words."""

    max_images = None
    context: int | None = None

    def response_ids(self, response: str) -> list[int]:
        return list(range(len(response.split()) + 1))

    def prompt_length(self, sample: Sample) -> int:
        return len(sample.question.split()) + len(sample.images)

    def special_token_in(self, *texts: str) -> str | None:
        return None


def trace(number: int, **changes: Any) -> Row:
    said = f"<think>One of {number} is seen.</think>\\boxed{{{number}}}"
    return {"id": str(number), "prompt": f"What is {number}?", "answer": str(number), "response": said, **changes}


def recipe(folder: Path, **data: Any) -> Recipe:
    table = {"name": "t", "stage": "sft", "out": str(folder / "run"), "data": data}
    return make_recipe(table, [])


def load(folder: Path, **data: Any) -> tuple[int, int, list[Sample]]:
    (folder / "run").mkdir(exist_ok=True)
    with Rewarder(RewardConfig()) as rewarder:
        found = load_traces(recipe(folder, **data), WordChat(), rewarder, Quarantine(), same_data=False)  # type: ignore[arg-type]
    return len(found[0]), len(found[1]), found[2]


def test_a_validation_file_is_read_whole(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [trace(i) for i in range(40)])
    val = write_jsonl(tmp_path / "val.jsonl", [trace(i) for i in range(100, 130)])
    assert load(tmp_path, train=str(train), val=str(val))[:2] == (40, 30)
    assert load(tmp_path, train=str(train), val=str(val), val_size=7)[:2] == (40, 7)


def test_without_one_a_twentieth_is_held_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [trace(i) for i in range(40)])
    kept, validating, samples = load(tmp_path, train=str(train))
    assert (kept, validating) == (38, 2)
    assert [sample.id for sample in samples] == ["0", "1"]
    assert f"{train}: 2 of 40 rows are held out for validation" in capsys.readouterr().out


def test_all_traces_of_a_question_stand_on_one_side(tmp_path: Path) -> None:
    rows = [trace(i % 10, id=f"{i}", system=f"Be {i}.") for i in range(40)]
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    kept, validating, samples = load(tmp_path, train=str(train))
    assert (kept, validating) == (32, 8)
    assert {sample.question for sample in samples} == {"What is 0?", "What is 1?"}


def test_a_question_about_another_image_is_another_one(tmp_path: Path) -> None:
    for shade in (1, 2):
        (tmp_path / f"{shade}.png").write_bytes(png(shade))
    rows = [trace(3, id=f"{i}", image=f"{1 + i % 2}.png") for i in range(20)]
    kept, validating, _ = load(tmp_path, train=str(write_jsonl(tmp_path / "t.jsonl", rows)))
    assert (kept, validating) == (10, 10)


def test_rows_of_one_question_cannot_be_divided(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [trace(3, id=f"{i}") for i in range(20)])
    with pytest.raises(DataError, match=r"all rows have the questions of the first ones.*give other ones in data\.val"):
        load(tmp_path, train=str(train))


def test_what_is_held_out() -> None:
    assert held_out("abcdef", 2) == [0, 1]
    assert held_out("abcab", 2) == [0, 1, 3, 4]
    assert held_out("", 2) == []
    assert question_key(Sample("a", "What  is\nit?", answer="1")) == question_key(
        Sample("b", "What is it?", system="S")
    )
    assert question_key(Sample("a", "Q?", choices=("x",))) != question_key(Sample("a", "Q?"))


def test_questions_that_are_held_out_whole() -> None:
    assert whole_questions("abcdef", [0, 2, 3, 5], 2) == [0, 2]
    assert whole_questions("abcab", [0, 1, 2], 3) == [0, 2, 3], "b would be the fourth"
    assert whole_questions("aaabbb", [0, 3], 2) == [0, 3], "no question fits: single samples"
    assert whole_questions("abc", [], 2) == whole_questions("abc", [0], 0) == []


def test_a_trace_that_the_model_cannot_hold_is_left_out() -> None:
    chat = WordChat()
    samples = [Sample(str(i), "Q? " * i, response="R") for i in (1, 10)]
    assert len(Traces(samples, chat, 100)) == 2  # type: ignore[arg-type]
    chat.context = 8
    assert len(Traces(samples, chat, 100)) == 1  # type: ignore[arg-type]


def test_the_reasons_of_dropped_traces_are_written(tmp_path: Path) -> None:
    rows = [trace(i) for i in range(30)] + [trace(40, response="<think>x</think>\\boxed{41}")]
    load(tmp_path, train=str(write_jsonl(tmp_path / "t.jsonl", rows)))
    assert json.loads((tmp_path / "run" / "data.json").read_text())["dropped"] == {"wrong_answer": 1}
