"""Which rows a teacher is asked: repeats, contradictions, copies of pictures, and what benchmarks hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.asking import file_of, picture, problem, problems
from helpers.rows import write_jsonl, write_parquet
from seethink.coldstart import questions as stage
from seethink.coldstart.benchmarks import grams
from seethink.coldstart.lookalikes import LEAST, Groups, alike, look, look_of_jpeg
from seethink.coldstart.questions import Questions, prepare_questions
from seethink.config import ReadConfig
from seethink.data.images import open_image
from seethink.data.quarantine import DataError
from seethink.rewards.golds import read_gold

LONG = "A train leaves the station at noon and travels at ninety kilometres an hour for {} hours; how far is it?"


def prepare(source: Path | str, out: Path, **options: Any) -> Questions:
    return prepare_questions(str(source), out, ReadConfig(), read_gold, **options)


def reasons(found: Questions) -> dict[str, str]:
    return {one.id: one.reason for one in found.left_out}


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    problems(tmp_path, 12)
    (tmp_path / "copy.jpg").write_bytes(file_of(picture(1, 48), "JPEG", quality=70))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    rows = [
        problem(0),
        problem(1),
        problem(2, answer=" "),
        problem(3, image="broken.png"),
        problem(0, id="again", question=" problem 0:  WHAT is the sum?"),
        problem(1, id="copy", image="copy.jpg"),
        problem(4),
        problem(4, id="otherwise", answer="8"),
        problem(5, id="same-picture", question="Problem 5: what is its colour?", answer="red", image="0.png"),
        problem(6, choices=["x", "y"], answer="B"),
        problem(6, id="other-options", choices=["y", "x"], answer="B"),
    ]
    found = prepare(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    assert reasons(found) == {
        "p2": "empty_gold", "p3": "image_unreadable", "again": "duplicate", "copy": "near_duplicate",
        "p4": "contradiction", "otherwise": "contradiction",
    }  # fmt: skip
    assert [one.id for one in found.kept] == ["p0", "p1", "same-picture", "p6", "other-options"]
    assert found.read == len(rows)
    assert found.about["benchmark_rows"] == 0
    assert next(one for one in found.left_out if one.id == "copy").detail == "rows.jsonl, row 2, asks the same"
    groups = {one.id: one.group for one in found.kept}
    assert groups["same-picture"] == groups["p0"] != groups["p1"]
    assert groups["p6"] == groups["other-options"]


def test_alike_pictures_of_problems_with_other_answers_are_other_problems(tmp_path: Path) -> None:
    """Plotted figures may differ in one digit, which no thumbnail shows."""
    problems(tmp_path, 1)
    (tmp_path / "copy.jpg").write_bytes(file_of(picture(0), "JPEG"))
    rows = [problem(0), problem(0, id="other", answer="5", image="copy.jpg")]
    found = prepare(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    assert len(found.kept) == 2
    assert len({one.group for one in found.kept}) == 1, "but they stay on one side of a split"


def test_what_benchmarks_hold(tmp_path: Path) -> None:
    problems(tmp_path, 5)
    rows = [problem(n, question=LONG.format(n) if n < 2 else f"Problem {n}?") for n in range(5)]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    bench = tmp_path / "bench" / "bench.jsonl"
    tested = [
        {"question": "Solve this. " + LONG.format(1).upper(), "answer": "1"},
        {"question": "Problem 2?", "answer": "2"},
        {"question": "What is seen?", "answer": "3", "image": "3.jpg"},
        {"question": "And here?", "answer": "4", "image": "4.png"},
    ]
    write_jsonl(bench, tested)
    (bench.parent / "3.jpg").write_bytes(file_of(picture(3, 90), "JPEG", quality=60))
    (bench.parent / "4.png").write_bytes(file_of(picture(4)))
    found = prepare(source, tmp_path / "out", against=[str(bench)])
    assert found.about["benchmark_rows"] == 4
    assert reasons(found) == {
        "p0": "benchmark_text", "p1": "benchmark_text", "p3": "benchmark_image", "p4": "benchmark_image"
    }  # fmt: skip
    assert [one.id for one in found.kept] == ["p2"], "two words are anybody's"
    assert {one.detail for one in found.left_out} >= {
        "the words of bench.jsonl, row 1",
        "the picture of bench.jsonl, row 3",
    }


def test_a_phrase_of_all_prompts_of_a_benchmark_is_no_hit(tmp_path: Path) -> None:
    ask = "Please look at the picture closely and then answer the following question with one short phrase: "
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(40)]
    bench = write_jsonl(tmp_path / "b.jsonl", [{"question": f"{ask}{word}?", "answer": "1"} for word in words])
    source = write_jsonl(tmp_path / "q.jsonl", [{"question": f"{ask}mine?", "answer": "1"}])
    assert len(prepare(source, tmp_path / "out", against=[str(bench)]).kept) == 1


def test_grams() -> None:
    assert grams("How many?") == set()
    assert len(grams("one two three four five six seven eight")) == 1
    assert len(grams(" ".join(map(str, range(15))))) == 3
    assert grams("如图所示，三角形的面积是多少平方厘米") & grams("已知：如图所示三角形的面积是多少平方厘米？")


def test_pictures_keep_their_bytes_and_lie_in_the_folder(tmp_path: Path) -> None:
    jpeg = file_of(picture(1, 64), "JPEG", quality=33)
    rows = [{"question": "Which?", "answer": "1", "images": [{"bytes": jpeg, "path": None}]}]
    found = prepare(write_parquet(tmp_path / "q.parquet", rows), tmp_path / "out")
    (name,) = found.kept[0].images
    assert name.endswith(".jpg")
    assert (tmp_path / "out" / name).read_bytes() == jpeg
    sample = found.kept[0].asked(tmp_path / "out")
    assert sample.images[0].size == (64, 64)
    assert sample.answer == ""
    assert found.kept[0].sample(None).answer == "1"


def test_the_stage_is_done_once_for_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = problems(tmp_path / "data", 4), tmp_path / "out"
    first = prepare(source, out)
    with monkeypatch.context() as patched:
        patched.setattr(stage, "read_rows", lambda *_, **__: pytest.fail("read again"))
        assert prepare(source, out) == first
    more = prepare(source, out, limit=2)
    assert [one.key for one in more.kept] == [one.key for one in first.kept[:2]]
    write_jsonl(source, [problem(0, answer="5")])
    again = prepare(source, out)
    assert again.kept[0].answer == "5"
    assert again.kept[0].key == first.kept[0].key, "a corrected gold asks no teacher anew"


@pytest.mark.parametrize("image", ["images/../../secret.png", "/etc/passwd", "x.png"])
def test_a_folder_that_was_tampered_with_leads_nowhere(tmp_path: Path, image: str) -> None:
    prepare(problems(tmp_path / "q", 1), tmp_path / "out")
    path = tmp_path / "out" / "questions.jsonl"
    row = json.loads(path.read_text())
    write_jsonl(path, [row | {"images": [image]}])
    with pytest.raises(DataError, match="is no picture of the folder"):
        stage.stored_questions(tmp_path / "out")
    write_jsonl(path, [row | {"more": 1}])
    with pytest.raises(DataError, match="is not what this version writes"):
        stage.stored_questions(tmp_path / "out")


def test_no_question_left(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "q.jsonl", [{"question": "How many?", "answer": None}])
    with pytest.raises(DataError, match=r"no question is left of 1 rows: .*q\.jsonl, row 1"):
        prepare(source, tmp_path / "out")


def test_the_world_gives_questions_too(tmp_path: Path) -> None:
    found = prepare("world:math,dice", tmp_path, limit=6)
    assert Counter(one.domain for one in found.kept) == {"math": 3, "dice": 3}
    assert all((tmp_path / one.images[0]).is_file() for one in found.kept)
    stored = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    assert [one["id"] for one in stored] == [one.id for one in found.kept]


# ---- pictures


def test_copies_look_alike_and_other_pictures_do_not() -> None:
    first = picture(1, 64)
    copies = [first.resize((200, 130)), first.convert("L").convert("RGB")]
    shades = np.stack([look(one) for one in (first, *copies, picture(2, 64))])
    assert list(alike(shades[:1], shades)) == [(0, 0), (0, 1), (0, 2)]


def test_flat_pictures_are_like_none() -> None:
    flat = np.full((3, 576), 128, dtype=np.uint8)
    assert list(alike(flat, flat)) == []
    assert list(alike(flat[:0], flat)) == []


def test_no_pair_is_missed() -> None:
    """The search along a few directions against every pair compared whole."""
    rng = np.random.default_rng(3)
    base = rng.integers(0, 256, (30, 576))
    near = base[rng.integers(0, 30, 60)] + rng.normal(0, np.linspace(5, 40, 60)[:, None], (60, 576))
    looks = np.clip(np.concatenate([base, near]), 0, 255).astype(np.uint8)
    pairs = set(alike(looks, looks))
    assert pairs == set(zip(*map(list, np.nonzero(np.corrcoef(looks.astype(float)) >= LEAST)), strict=True))
    assert 90 < len(pairs) < 90 + 30 * 60


def test_groups_join_through_others() -> None:
    groups = Groups(5)
    groups.join(4, 2)
    groups.join(1, 4)
    assert [groups.first(item) for item in range(5)] == [0, 1, 1, 3, 1]


@pytest.mark.parametrize(("side", "mode", "turned"), [(24, "RGB", 1), (200, "L", 6), (700, "RGB", 3), (300, "CMYK", 1)])
def test_a_jpeg_looks_the_same_decoded_small(side: int, mode: str, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    content = file_of(picture(3, side).convert(mode), "JPEG", quality=85, exif=exif)
    whole = open_image(content, None)
    assert np.corrcoef(look(whole), look_of_jpeg(content))[0, 1] > 0.99
