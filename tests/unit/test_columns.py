"""The peers' column styles: each is recognised, read without conversion, and refused clearly where it cannot be."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from helpers.rows import load_samples, read_rows
from seethink.config import ReadConfig
from seethink.core.types import Sample
from seethink.data.columns import read_fields, recognise
from seethink.data.quarantine import DataError, RowError
from seethink.data.styles import STYLES

Row = dict[str, Any]


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def text64(shade: int) -> str:
    return base64.b64encode(png(shade)).decode()


def uri(shade: int) -> str:
    return f"data:image/png;base64,{text64(shade)}"


def shades(sample: Sample) -> list[int]:
    return [picture.getpixel((0, 0))[0] for picture in sample.pictures()]  # type: ignore[index]


def user(content: Any) -> Row:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Row:
    return {"role": "assistant", "content": content}


def talk(question: str, reply: str) -> list[Row]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]


TRACE = "<think>1+2=3</think>\n<answer> 3 </answer>"

ROWS: dict[str, tuple[str, Row, Row]] = {
    # name: (style, row, fields of the sample)
    "seethink prompt": ("seethink", {"prompt": "Q?", "image": "a.png", "answer": "3"}, {}),
    "seethink messages": ("seethink", {"messages": [user("<image>Q?")], "images": ["a.png"], "answer": "3"}, {}),
    "seethink sft": (
        "seethink",
        {"messages": [user("Q?"), assistant("R")], "images": ["a.png"]},
        {"answer": "", "response": "R"},
    ),
    "seethink everything": (
        "seethink",
        {
            "id": "x",
            "prompt": "Q?",
            "images": ["a.png"],
            "choices": ["1", "3"],
            "answer": "3",
            "domain": "d",
            "difficulty": "hard",
            "response": "R",
            "system": "S",
        },
        {
            "id": "x",
            "choices": ("1", "3"),
            "answer": "B",
            "domain": "d",
            "difficulty": "hard",
            "response": "R",
            "system": "S",
        },
    ),
    "trl messages": ("trl", {"prompt": [user("Q?")], "image": "a.png", "solution": "3"}, {}),
    "trl ground_truth": ("trl", {"prompt": "Q?", "images": ["a.png"], "ground_truth": 3}, {}),
    "trl blocks": (
        "trl",
        {
            "prompt": [user([{"type": "image"}, {"type": "text", "text": "Q?"}])],
            "images": ["a.png"],
            "solution": "\\boxed{3}",
        },
        {},
    ),
    "trl sft": (
        "trl",
        {"prompt": [user("Q?")], "completion": [assistant("R")], "images": ["a.png"]},
        {"answer": "", "response": "R"},
    ),
    "trl answer before solution": (
        "trl",
        {"prompt": "Q?", "image": "a.png", "solution": "First, one adds.", "answer": "3"},
        {},
    ),
    "easyr1": ("easyr1", {"problem": "<image>Q?", "answer": "3", "images": ["a.png"]}, {}),
    "easyr1 solution": ("easyr1", {"problem": "Q?", "solution": "<answer> 3 </answer>", "image": "a.png"}, {}),
    "easyr1 trace": ("easyr1", {"problem": "Q?", "solution": TRACE, "image": "a.png"}, {"response": TRACE}),
    "verl": (
        "verl",
        {
            "data_source": "geo3k",
            "prompt": [{"role": "system", "content": "S"}, user("<image>Q?")],
            "images": ["a.png"],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "3"},
            "extra_info": {"split": "train", "index": 4, "difficulty": "easy"},
        },
        {"domain": "geo3k", "system": "S", "difficulty": "easy"},
    ),
    "verl list truth": (
        "verl",
        {"prompt": [user("Q?")], "images": ["a.png"], "reward_model": {"ground_truth": ["3"]}},
        {},
    ),
    "ms-swift": ("ms-swift", {"messages": [user("<image>Q?")], "images": ["a.png"], "solution": "3"}, {}),
    "ms-swift both": (
        "ms-swift",
        {"messages": [user("Q?")], "images": "a.png", "solution": "<answer>3</answer>", "answer": "4"},
        {},
    ),
    "ms-swift query": (
        "ms-swift",
        {"system": "S", "query": "<image>Q?", "response": "R", "history": [], "images": ["a.png"]},
        {"answer": "", "response": "R", "system": "S"},
    ),
    "llava short": (
        "vlm-r1",
        {"id": 7, "image": "a.png", "conversations": talk("<image>\nQ?", "3")},
        {"id": "7", "answer": "", "response": "3", "question": "<image>\nQ?"},
    ),
    "llava trace": (
        "vlm-r1",
        {"image": ["a.png"], "conversations": talk("Q?", TRACE)},
        {"answer": "", "response": TRACE},
    ),
    "llava caption": (
        "vlm-r1",
        {"image": "a.png", "conversations": talk("Q?", "Long. " * 40)},
        {"answer": "", "response": "Long. " * 40},
    ),
    "vlm-r1 solution": (
        "vlm-r1",
        {"image": "a.png", "solution": "3", "conversations": talk("Q?", "x")},
        {"response": "x"},
    ),
}  # fmt: skip


def write(tmp_path: Path, rows: list[Row]) -> Path:
    (tmp_path / "a.png").write_bytes(png(7))
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", list(ROWS))
def test_every_style_is_recognised_and_read(tmp_path: Path, name: str) -> None:
    style, row, fields = ROWS[name]
    path = write(tmp_path, [row])
    (result,) = read_rows(str(path), "train")
    assert result.problem is None, result.problem
    assert result.style is not None
    assert result.style.name == style
    sample = result.sample
    assert sample is not None
    wanted = {"answer": "3", "response": None, "system": "", "domain": "default", "choices": (), **fields}
    assert {key: getattr(sample, key) for key in wanted} == wanted
    assert sample.question.replace("<image>", "").strip() == "Q?"
    assert shades(sample) == [7]
    # Stated outright it reads the same.
    assert load_samples(str(path), "train", None, 0, config=ReadConfig(style=style)) == [sample]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [n for n, (_, row, _) in ROWS.items() if "image" in row or "images" in row])
def test_parquet_fills_structs_with_nulls(tmp_path: Path, name: str) -> None:
    """Every row of a table has every column, and every struct every field of its neighbours'."""
    style, row, _ = ROWS[name]
    column = "image" if "image" in row else "images"
    image: Any = {"bytes": png(7), "path": None}
    row = {**row, column: image if column == "image" and not isinstance(row[column], list) else [image]}
    other = {key: value for key, value in row.items() if key not in ("solution", "answer")} | {"unrelated": {"a": 1}}
    path = tmp_path / "d.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([row, row | other]), path)
    first, second = read_rows(str(path), "train")
    assert first.sample is not None, first.problem
    assert second.sample is not None, second.problem
    assert first.style is not None
    assert first.style.name == style
    assert shades(first.sample) == shades(second.sample) == [7]


def test_what_verl_says_besides_is_kept(tmp_path: Path) -> None:
    (sample,) = load_samples(str(write(tmp_path, [ROWS["verl"][1]])), "train", None, 0)
    assert sample.meta["extra_info"] == {"split": "train", "index": 4, "difficulty": "easy"}
    assert sample.meta["data_source"] == "geo3k"


@pytest.mark.parametrize(
    ("columns", "style"),
    [
        ({"prompt", "answer"}, "seethink"),
        ({"prompt", "response"}, "seethink"),
        ({"messages"}, "seethink"),
        ({"messages", "answer", "images"}, "seethink"),
        ({"messages", "solution", "answer"}, "ms-swift"),
        ({"query", "response"}, "ms-swift"),
        ({"prompt", "answer", "solution"}, "trl"),
        ({"prompt", "completion"}, "trl"),
        ({"problem", "solution", "prompt"}, "easyr1"),
        ({"prompt", "reward_model", "solution"}, "verl"),
        ({"conversations", "problem", "messages", "solution"}, "vlm-r1"),
    ],
)
def test_where_styles_overlap_the_order_of_the_table_decides(columns: set[str], style: str) -> None:
    assert recognise([dict.fromkeys(columns, "x")], "auto", "s").name == style
    # Columns that hold nothing in the first rows do not count.
    nothing = {"conversations": None, "problem": None, "reward_model": None, "query": None}
    assert recognise([{**nothing, **dict.fromkeys(columns, "x")}], "auto", "s").name == style


def test_a_stated_style_rules(tmp_path: Path) -> None:
    path = write(tmp_path, [{"problem": "P?", "prompt": "Q?", "answer": "3"}])
    assert load_samples(str(path), "train", None, 0)[0].question == "P?"
    assert load_samples(str(path), "train", None, 0, config=ReadConfig(style="seethink"))[0].question == "Q?"
    with pytest.raises(DataError, match=r"missing columns\. Expected verl \(prompt \+ reward_model\); found columns"):
        load_samples(str(path), "train", None, 0, config=ReadConfig(style="verl"))


def test_questions_that_show_their_options_stay_as_they_are(tmp_path: Path) -> None:
    question = "Which?\nA. red\nB. blue"
    (sample,) = load_samples(str(write(tmp_path, [{"problem": question, "answer": "B"}])), "train", None, 0)
    assert (sample.question, sample.answer, sample.choices) == (question, "B", ())


@pytest.mark.parametrize("options", [["red", "blue"], {"A": "red", "B": "blue", "C": None}])
def test_options_of_other_names(tmp_path: Path, options: Any) -> None:
    row = {"problem": "Which?", "options": options, "answer": "blue"}
    (sample,) = load_samples(str(write(tmp_path, [row])), "train", None, 0)
    assert (sample.answer, sample.choices) == ("B", ("red", "blue"))


BLOCKS: dict[str, Row] = {
    "openai": {"type": "image_url", "image_url": {"url": uri(9), "detail": "high"}},
    "openai text": {"type": "image_url", "image_url": uri(9)},
    "responses": {"type": "input_image", "image_url": uri(9)},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text64(9)}},
    "transformers url": {"type": "image", "url": uri(9)},
    "transformers path": {"type": "image", "path": "b.png"},
    "transformers base64": {"type": "image", "base64": text64(9)},
    "qwen": {"type": "image", "image": "b.png"},
    "no type": {"image": "b.png"},
    "raw base64": {"type": "image", "image": text64(9)},
    "column": {"type": "image"},
    "column with nulls": {"type": "image", "image_url": None, "text": None},
}


@pytest.mark.parametrize("column", ["prompt", "messages"])
@pytest.mark.parametrize("name", list(BLOCKS))
def test_every_kind_of_block(tmp_path: Path, name: str, column: str) -> None:
    (tmp_path / "b.png").write_bytes(png(9))
    content = [
        {"type": "text", "text": "Is "},
        BLOCKS[name],
        {"type": "input_text", "text": " darker than "},
        {"type": "image_url", "image_url": {"url": uri(20)}},
        "?",
    ]
    row = {column: [user(content)], "answer": "3"}
    if name.startswith("column"):
        row["images"] = ["b.png"]
    (sample,) = load_samples(str(write(tmp_path, [row])), "train", None, 0)
    assert sample.question == "Is <image> darker than <image>?"
    assert shades(sample) == [9, 20]


def test_a_single_block_is_a_content(tmp_path: Path) -> None:
    row = {"messages": [user({"type": "text", "text": "Q?"}), assistant([{"type": "text", "text": "R"}])]}
    (sample,) = load_samples(str(write(tmp_path, [row])), "train", None, 0)
    assert (sample.question, sample.response) == ("Q?", "R")


def test_images_of_the_column_fill_the_marks_that_carry_none(tmp_path: Path) -> None:
    for name, shade in (("b.png", 1), ("c.png", 3)):
        (tmp_path / name).write_bytes(png(shade))
    content = [{"type": "image"}, {"type": "image", "image": uri(2)}, {"type": "text", "text": "<image> Q?"}]
    row = {"messages": [user(content)], "images": ["b.png", "c.png"], "answer": "3"}
    (sample,) = load_samples(str(write(tmp_path, [row])), "train", None, 0)
    assert shades(sample) == [1, 2, 3]


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ({"prompt": [user("a"), assistant("b"), user("c")]}, "multi_turn", "found 2 and 1"),
        ({"prompt": [user("a"), assistant("b"), assistant("c")]}, "multi_turn", "found 1 and 2"),
        ({"query": "a", "history": [["b", "c"]]}, "multi_turn", "'history' is not empty"),
        ({"prompt": [assistant("b"), user("c")]}, "bad_message", "the assistant speaks before the user"),
        ({"prompt": [assistant("b")]}, "bad_message", "expected one user turn, found 0"),
        ({"prompt": [{"role": "tool", "content": "b"}, user("c")]}, "bad_message", "unknown role 'tool'"),
        ({"prompt": [{"content": "b"}]}, "bad_message", "unknown role None"),
        ({"prompt": [user([{"type": "image"}])]}, "image_count", "1 <image> marks but there are 0 images"),
        (
            {"prompt": [user([{"type": "image"}, {"type": "image", "image": "x"}])], "images": ["a", "b"]},
            "image_count",
            "1 <image> marks (1 more carry their image) but there are 2",
        ),
        ({"prompt": [user([{"type": "image", "image": "x"}])], "image": "y"}, "image_count", "0 <image> marks (1 more"),
        ({"prompt": [user([{"type": "input_audio", "input_audio": "x"}])]}, "unsupported_media", "'input_audio'"),
        ({"prompt": [user("a"), assistant([{"type": "video", "video": "x"}])]}, "bad_message", "turn holds a video"),
        (
            {"prompt": [user([{"type": "video"}, {"type": "video", "video": "x"}])], "videos": ["a", "b"]},
            "video_count",
            "1 <video> marks but there are 2 videos",
        ),
        ({"prompt": [user([{"type": "tool_use"}])]}, "bad_message", "unknown content block of type 'tool_use'"),
        ({"prompt": [user([{}])]}, "bad_message", "unknown content block of type None"),
        ({"prompt": [user([3])]}, "bad_message", "a content block must be an object, not int"),
        ({"prompt": [user("a"), assistant([{"type": "image"}])]}, "bad_message", "the assistant turn holds an image"),
        ({"prompt": [{"role": "system", "content": [{"type": "image"}]}, user("a")]}, "bad_message", "the system turn"),
        ({"prompt": [user(" ")]}, "bad_message", "the question is empty"),
        ({"prompt": [user([{"type": "text", "text": None}])]}, "bad_message", "the question is empty"),
        ({"problem": "a", "audio": ["x.wav"]}, "unsupported_media", "'audio'"),
        ({"prompt": "a", "reward_model": "3"}, "bad_gold", "must be an object with 'ground_truth', not str"),
        (
            {"prompt": "a", "response": [user("b")] * 2},
            "bad_message",
            "a response must be a text or one assistant turn",
        ),
        ({"prompt": {"text": "a"}}, "bad_message", "expected a text or a list of turns, found dict"),
    ],
)
def test_rows_that_cannot_be_read(row: Row, reason: str, said: str) -> None:
    with pytest.raises(RowError) as error:
        read_fields(row, recognise([row], "auto", "s"))
    assert error.value.reason == reason
    assert said in str(error.value)


def test_a_row_without_its_styles_columns(tmp_path: Path) -> None:
    """The style is that of the first rows, for the whole source."""
    rows = [{"problem": "a", "answer": "1"}] * 30 + [{"prompt": "a", "answer": "1"}]
    results = list(read_rows(str(write(tmp_path, rows)), "train"))
    assert [r.problem is None for r in results] == [True] * 30 + [False]
    assert results[-1].problem is not None
    assert results[-1].problem.reason == "missing_column"
    assert results[-1].problem.detail == "expected problem; found columns answer, prompt"


def test_the_style_is_told_from_the_first_rows_that_are_json(tmp_path: Path) -> None:
    path = write(tmp_path, [{"problem": "a", "answer": "1"}])
    path.write_text("{\n" * 40 + path.read_text())
    results = list(read_rows(str(path), "train"))
    assert [r.row for r in results if r.sample] == [41]
    assert [r.row for r in results if r.problem] == list(range(1, 41))


def test_systems_are_kept(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be"}, {"role": "system", "content": [{"type": "text", "text": "brief."}]}]
    (sample,) = load_samples(
        str(write(tmp_path, [{"messages": [*turns, user("Q?")], "answer": "3"}])), "train", None, 0
    )
    assert (sample.system, sample.question) == ("Be\nbrief.", "Q?")


def test_every_style_has_its_name_in_the_recipe() -> None:
    for style in STYLES:
        assert ReadConfig(style=style.name).style == style.name  # type: ignore[arg-type]
