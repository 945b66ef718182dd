"""Rows after public reports (../shared/cases/rows): each file is read as it is meant, or refused by column and row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.rows import read_rows
from seethink.core.types import Sample
from seethink.data.images import open_image
from seethink.data.rows import RowResult

ROWS = Path(__file__).resolve().parents[3] / "shared" / "cases" / "rows"
pytestmark = pytest.mark.skipif(not ROWS.is_dir(), reason="the reported rows are not on this machine")
COLOURS = ("red", "green", "blue", "yellow", "black", "white")


def results(name: str, *, graded: bool = True) -> dict[int, RowResult]:
    return {found.row: found for found in read_rows(str(ROWS / name), "train", graded=graded)}


def good(name: str) -> list[Sample]:
    """The samples of a file without a bad row."""
    found = results(name).values()
    assert [r.problem for r in found if r.problem is not None] == []
    return [r.sample for r in found if r.sample is not None]


def middle(image: Any) -> tuple[int, ...]:
    picture = image.load()
    return tuple(picture.getpixel((picture.width // 2, picture.height // 2)))


def shown(colour: str) -> tuple[int, ...]:
    picture = open_image(f"img/{colour}.png", ROWS)
    return tuple(picture.getpixel((picture.width // 2, picture.height // 2)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["03_image_path_column", "05_imgs_column", "34_mixed_columns"])
def test_images_in_other_columns_are_read(name: str) -> None:
    samples = good(f"{name}.jsonl")
    assert [sample.answer for sample in samples] == [COLOURS[i % 6] for i in range(24)]
    assert [middle(sample.images[0]) for sample in samples] == [shown(sample.answer) for sample in samples]


def test_numbered_images_stand_where_their_marks_are() -> None:
    for place, sample in enumerate(good("04_numbered_images.jsonl")):
        first, second = COLOURS[place % 6], COLOURS[(place + 1) % 6]
        assert sample.question == "<image> came after <image>. What colour is the square of <image>?"
        assert [middle(image) for image in sample.images] == [shown(second), shown(first), shown(first)]
        assert sample.answer == first


OWN_ROWS: dict[int, tuple[str, tuple[str, ...], int] | str] = {
    # line: (gold, options, images), or the reason against it
    1: "choices may count from 0 or from 1: give the letter",
    2: "choices may count from 0 or from 1: give the letter",
    3: "the text of choice B and perhaps the number of another",
    4: ("red", (), 1),
    5: ("2", (), 0),
    6: ("2", (), 0),
    7: ("2", (), 0),
    8: ("2", (), 0),
    9: ("red", (), 1),
    10: ('["red", "crimson"]', (), 1),
    11: "'answer': expected text or a number, found true; write what the response must say",
    14: ("red", (), 1),
    15: ("red", (), 1),
    16: ("A", ("red", "blue", "green"), 1),
    17: ("A", ("red", "blue"), 1),
    18: ("B", ("red", "blue", "green"), 1),
    19: ("B", ("red", "blue"), 1),
    20: ("B", ("red", "blue"), 1),
    21: ("B", ("red", "blue"), 1),
    22: ("B", ("red", "blue"), 1),
    23: ("B", ("red", "blue"), 1),
    24: ("B", ("red", "blue"), 1),
    25: ("B", ("3", "5", "7.5"), 1),
    26: ("A", ("red", "blue"), 1),
    27: ("red", (), 1),
    28: ("red", (), 1),
    32: ("red", (), 1),
    33: "'messages': expected one user turn and its answer",
    34: ("5 cm", (), 1),
    35: "need a non-empty 'answer'",
    36: "'answer': expected text or a number, found 'None'",
    37: ("C", ("1", "2", "None"), 1),
    38: ("C", ("1", "2", "None of the above"), 1),
}


@pytest.mark.parametrize("line", OWN_ROWS)
def test_rows_in_our_own_columns(line: int) -> None:
    found, wanted = results("02_rows_seethink.jsonl")[line], OWN_ROWS[line]
    if isinstance(wanted, str):
        assert found.problem is not None
        assert wanted in found.problem.detail
        return
    assert found.sample is not None, found.problem
    assert (found.sample.answer, found.sample.choices, len(found.sample.images)) == wanted


def test_options() -> None:
    found = results("06_options.jsonl")
    read = {row: r.sample for row, r in found.items() if r.sample is not None}
    assert {row: (s.choices, s.answer) for row, s in read.items() if row < 13} == {
        1: (("red", "blue", "green"), "B"),
        2: (("red", "blue"), "A"),
        3: (("red", "blue"), "A"),
        4: (("red", "blue"), "A"),
        5: (("red", "blue"), "A"),
        6: (("red", "blue"), "A"),
        7: ((), "A"),
        8: (("red", "blue"), "A"),
        9: (("红色", "蓝色"), "A"),
        10: (("1", "2", "None"), "C"),
        12: (("<image>", "<image>"), "A"),
    }
    assert [middle(image) for image in read[12].images] == [shown("red"), shown("blue")]
    assert found[11].problem is not None
    assert found[11].problem.detail == "the question and its choices have 4 <image> marks but there are 2 images"


UNREADABLE = ("a.avif", "a.ico", "a.ppm", "a.svg", "b64 cut", "b64 urlsafe", "datauri urlsafe", "url", "file url",
              "urlenc missing", "absolute inside", "backslash")  # fmt: skip


def test_pictures_are_shown_as_they_are_or_refused() -> None:
    found = list(results("10_images.jsonl").values())
    refused = [r.problem for r in found if r.problem is not None]
    assert {p.id for p in refused} <= set(UNREADABLE)
    assert all(p.detail and p.reason.startswith("image_") for p in refused)
    flat = {"black.png", "white.png", "g_1x1.png"}
    for sample in (r.sample for r in found if r.sample is not None):
        if sample.images[0].size[0] * sample.images[0].size[1] < 1_000_000 and sample.id not in flat:
            assert np.asarray(sample.pictures()[0]).std() > 20, f"{sample.id} is all of one grey"


@pytest.mark.parametrize(
    ("name", "answers", "images"),
    [
        ("11_verl_mixed", ["red", "blue", "green", "2", "3"], [1, 1, 1, 0, 0]),
        ("12_verl_listgold", ["4", '["4", "four"]'], [1, 1]),
        ("14_image_struct", ["red", "blue"], [1, 1]),
        ("15_bytes", ["red", "blue"], [1, 1]),
        ("17_floats", ["3", "2.5"], [1, 1]),
        ("18_trl_blocks", ["red", "2"], [1, 0]),
        ("19_json_string", ["red"], [1]),
    ],
)
def test_tables(name: str, answers: list[str], images: list[int]) -> None:
    samples = good(f"{name}.parquet")
    assert [sample.answer for sample in samples] == answers
    assert [len(sample.images) for sample in samples] == images


@pytest.mark.parametrize(
    ("name", "answers", "line", "said"),
    [
        ("13_geo3k", ["B", "A"], 3, "'answer': expected a letter A to D or the text of a choice, found '12.5'"),
    ],
)
def test_tables_with_a_bad_row(name: str, answers: list[str], line: int, said: str) -> None:
    found = results(f"{name}.parquet")
    assert [r.sample.answer for r in found.values() if r.sample is not None] == answers
    problem = found[line].problem
    assert problem is not None
    assert said in problem.detail


def test_chats_as_json_text_are_chats() -> None:
    samples = good("19b_json_string.jsonl")
    assert [s.question for s in samples] == [f"<image>What colour is square {i}?" for i in range(24)]
    assert [middle(s.images[0]) for s in samples] == [shown(s.answer) for s in samples]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_conversations(suffix: str) -> None:
    found = results(f"20_sharegpt.{suffix}")
    read = {row: (r.sample.answer, len(r.sample.images)) for row, r in found.items() if r.sample is not None}
    one = ("red", 1)
    assert read == {1: one, 2: one, 3: one, 4: one, 5: one, 6: one, 9: one, 10: ("B", 2), 12: ("2", 0), 14: ("2", 0),
                    16: one}  # fmt: skip
    reasons = {row: r.problem.reason for row, r in found.items() if r.problem is not None}
    assert reasons == {
        7: "multi_turn", 8: "bad_message", 11: "image_count", 13: "image_count", 15: "video_missing",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("24_tagged_golds_train", [COLOURS[i % 6] for i in range(18)]),
        ("25_letter_text_golds", ["ABC"[i % 3] for i in range(18)]),
        ("26_gsm_golds", [str(i + 2) for i in range(12)]),
        ("33_eval_chat", ["red", "blue", "green"]),
    ],
)
def test_golds(name: str, answers: list[str]) -> None:
    assert [sample.answer for sample in good(f"{name}.jsonl")] == answers


def test_all_of_a_file_is_evaluated() -> None:
    from seethink.config import EvalConfig
    from seethink.eval.tasks.source import eval_samples

    assert len(eval_samples(EvalConfig(data=str(ROWS / "32_eval_520.jsonl")), 0)) == 520
