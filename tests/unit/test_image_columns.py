"""Where a row's images are: every usual column, numbered ones, and columns that hold images and are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.rows import Row, load, png, read_rows, row, write_jsonl, write_parquet
from seethink.core.types import Sample
from seethink.data.quarantine import DataError
from seethink.data.rows import RowResult


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path) -> None:
    for shade, name in enumerate(("a", "b", "c")):
        (tmp_path / f"{name}.png").write_bytes(png(shade))
    (tmp_path / "two words.png").write_bytes(png())


def shades(sample: Sample) -> list[int]:
    return [picture.getpixel((0, 0))[0] for picture in sample.pictures()]  # type: ignore[index]


def result(tmp_path: Path, given: Row) -> RowResult:
    (found,) = read_rows(str(write_jsonl(tmp_path / "d.jsonl", [given])), "train")
    return found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image": "b.png"}, [1]),
        ({"image_path": "b.png"}, [1]),
        ({"image_paths": ["b.png", "a.png"]}, [1, 0]),
        ({"imgs": ["c.png"]}, [2]),
        ({"img": "c.png"}, [2]),
        ({"image_1": "b.png", "image_2": "c.png", "image_3": None}, [1, 2]),
        ({"image2": "b.png", "image1": "c.png"}, [2, 1]),
        ({"images": [], "image": "b.png"}, [1]),
        ({"images": [""], "image": "", "image_path": "b.png"}, [1]),
        ({"images": '["b.png", "c.png"]'}, [1, 2]),
        ({"images": ["b.png", None, ""]}, [1]),
        ({"images": [{"path": None, "bytes": None}], "img": "b.png"}, [1]),
        ({"images": [None]}, []),
        ({"image": {"bytes": None, "path": None}}, []),
        ({"image": {}, "images": [[]], "imgs": float("nan")}, []),
        ({"image": "  "}, []),
        ({"image": "None"}, []),
        ({"image": "nan", "images": ["null"]}, []),
        ({"image": False}, []),
        ({"images": None, "image": ""}, []),
        ({"images": [""]}, []),
    ],
)
def test_usual_columns_are_read(tmp_path: Path, changes: Row, expected: list[int]) -> None:
    found = result(tmp_path, row(**changes))
    assert found.sample is not None, found.problem
    assert shades(found.sample) == expected
    assert found.unread_images == ()
    assert len(set(found.columns) & changes.keys()) == (
        len(expected) if "image_2" in changes or "image2" in changes else bool(expected)
    )


@pytest.mark.parametrize(
    ("question", "choices", "asked", "options", "expected"),
    [
        ("<image 2> after <image 1>?", [], "<image> after <image>?", (), [1, 0]),
        ("<image 2>, <image 1>, <image 2>?", [], "<image>, <image>, <image>?", (), [1, 0, 1]),
        ("Like <image_1>?", ["x", "<image 2>"], "Like <image>?", ("x", "<image>"), [0, 1]),
        ("Both?", [], "Both?", (), [0, 1]),
    ],
)
@pytest.mark.parametrize("numbered", [True, False])
def test_numbered_marks(
    tmp_path: Path,
    question: str,
    choices: list[str],
    asked: str,
    options: tuple[str, ...],
    expected: list[int],
    numbered: bool,
) -> None:
    images: Row = {"image_1": "a.png", "image_2": "b.png"} if numbered else {"images": ["a.png", "b.png"]}
    answer = "A" if choices else "3"
    given = row(prompt=question, choices=choices, answer=answer, **images)
    sample = load(write_jsonl(tmp_path / "d.jsonl", [given]))[0]
    assert (sample.question, sample.choices, shades(sample)) == (asked, options, expected)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"picture": "a.png"}, "unread_images", "the row's images are in 'picture', which is not read"),
        ({"pics": ["sub/a.JPG"]}, "unread_images", "in 'pics'"),
        ({"prompt": "<image> How many?", "picture": "a.png"}, "unread_images", "in 'picture'"),
        ({"prompt": "<image 1> How many?", "picture": "a.png"}, "unread_images", "in 'picture'"),
        ({"prompt": "<image> or <image>?", "image": "a.png", "other": "b.png"}, "unread_images", "in 'other'"),
        ({"x": "data:image/png;base64,AAAA"}, "unread_images", "in 'x'"),
        ({"x": {"path": "a.webp"}, "y": "https://x.org/b.gif"}, "unread_images", "in 'x', 'y'"),
        ({"x": "https://x.org/b.png?size=3"}, "unread_images", "in 'x'"),
        ({"x": {"inside": ["scan.heic"]}}, "unread_images", "in 'x'"),
        ({"x": "two words.png"}, "unread_images", "in 'x'"),
        ({"image_file": "000123"}, "unread_images", "in 'image_file'"),
        ({"imageUrl": "000123"}, "unread_images", "in 'imageUrl'"),
        ({"photo_paths": ["000123"]}, "unread_images", "in 'photo_paths'"),
        ({"prompt": "![a](b.png) How many?"}, "unread_images", "names the image 'b.png' in its text"),
        ({"prompt": "Picture 1: <img>b.png</img> How many?"}, "unread_images", "names the image 'b.png'"),
        ({"prompt": '<img width=3 src="b"> How many?'}, "unread_images", "names the image 'b'"),
        ({"images": [None, "a.png"]}, "image_source", "'images': image 1 is empty, before one that is not"),
        ({"prompt": "<image 1>?"}, "image_count", "the marks <image 1> but there are 0 images"),
        ({"prompt": "<image 1>?", "images": ["a.png", "b.png"]}, "image_count", "<image 1> but there are 2 images"),
        ({"prompt": "<image 1> or <image>?", "images": ["a.png"]}, "image_count", "with and without a number"),
        ({"image_1": "a.png", "image_3": "b.png"}, "image_count", "without a gap, found image_1, image_3"),
    ],
)
def test_images_that_cannot_be_placed_are_a_bad_row(tmp_path: Path, changes: Row, reason: str, said: str) -> None:
    problem = result(tmp_path, row(**changes)).problem
    assert problem is not None
    assert problem.reason == reason
    assert said in problem.detail


@pytest.mark.parametrize("note", ["see a.png", "no such words.png", "a.pngx", "", 3, None, ["text"], {"path": "a.txt"}])
def test_other_columns_are_no_images(tmp_path: Path, note: Any) -> None:
    found = result(tmp_path, row(note=note))
    assert found.sample is not None
    assert found.unread_images == ()


@pytest.mark.parametrize(
    "column", [{"image_id": 7}, {"image_id": "x"}, {"image_width": 4}, {"image_caption": "A red car"}, {"figure": "no"}]
)
def test_columns_about_images_hold_none(tmp_path: Path, column: Row) -> None:
    found = result(tmp_path, row(**column))
    assert found.sample is not None, found.problem
    assert found.unread_images == ()


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\0\0\0\x1cftypavif", b"\0\0\1\0", b"P6\n2 2", b"<svg xmlns"])
def test_bytes_that_begin_like_an_image(tmp_path: Path, start: bytes) -> None:
    path = write_parquet(tmp_path / "d.parquet", [row(x=start + bytes(90)), row(x=b"RIFX" + bytes(90))])
    first, second = read_rows(str(path), "train")
    assert first.problem is not None
    assert first.problem.reason == "unread_images"
    assert second.sample is not None


def test_encoded_images_in_an_unread_column(tmp_path: Path) -> None:
    rows = [row(picture={"bytes": png(), "path": None}), row(picture={"bytes": png(), "path": None})]
    with pytest.raises(DataError, match="the row's images are in 'picture'"):
        load(write_parquet(tmp_path / "d.parquet", rows))


def test_more_images_beside_those_that_are_read_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(image="a.png", image_path="b.png", **{"depth\x1b[2J": "c.png"})] * 3
    samples = load(write_jsonl(tmp_path / "d.jsonl", rows))
    assert [shades(sample) for sample in samples] == [[0]] * 3
    out = capsys.readouterr().out
    assert "3 rows in seethink columns (prompt, answer, image)" in out
    assert out.count("columns that hold images too and are not read: depth␛[2J, image_path") == 1
    assert "\x1b" not in out


def test_a_column_named_question(tmp_path: Path) -> None:
    sample = load(write_jsonl(tmp_path / "d.jsonl", [{"question": "How many?", "image": "b.png", "answer": "3"}]))[0]
    assert (sample.question, sample.answer, shades(sample)) == ("How many?", "3", [1])


def test_rows_of_several_columns(tmp_path: Path) -> None:
    rows = [row(image_path="a.png"), row(image="b.png"), row(imgs=["c.png"])]
    samples = load(write_jsonl(tmp_path / "d.jsonl", rows))
    assert [shades(sample) for sample in samples] == [[0], [1], [2]]
