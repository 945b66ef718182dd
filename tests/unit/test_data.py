"""Files and folders -> samples: every form that peers write, and errors that name the file, the row and the cure."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from seethink.data.dataset import (
    DataError,
    endless_order,
    load_samples,
    require_answers,
    shuffled,
    source_and_size,
    to_sample,
)
from seethink.types import Sample

Row = dict[str, Any]


def png(shade: int = 10) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def row(**changes: Any) -> Row:
    return {"prompt": "How many?", "answer": "3", **changes}


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_stream(path: Path, rows: list[Row]) -> Path:
    """An Arrow stream, as `save_to_disk` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def write_arrow_file(path: Path, rows: list[Row]) -> Path:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def load(path: Path, split: str = "train", size: int | None = None, root: Path | None = None) -> list[Sample]:
    return load_samples(str(path), split, size, 0, image_root=None if root is None else str(root))


def one(tmp_path: Path, **changes: Any) -> Sample:
    return load(write_jsonl(tmp_path / "d.jsonl", [row(**changes)]))[0]


def problem(tmp_path: Path, **changes: Any) -> str:
    """What is said of a bad second row."""
    path = write_jsonl(tmp_path / "bad.jsonl", [row(), row(**changes)])
    with pytest.raises(DataError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path}, row 2: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "write"),
    [("d.jsonl", write_jsonl), ("d.parquet", write_parquet), ("d.arrow", write_stream), ("e.arrow", write_arrow_file)],
)
def test_every_file_format(tmp_path: Path, name: str, write: Callable[[Path, list[Row]], Path]) -> None:
    rows = [row(prompt=f"Question {i}?", answer=str(i), domain="d", difficulty="hard", id=f"r{i}") for i in range(5)]
    path = write(tmp_path / name, rows)
    samples = load(path)
    assert [(s.id, s.question, s.answer) for s in samples] == [(f"r{i}", f"Question {i}?", str(i)) for i in range(5)]
    assert {(s.domain, s.difficulty, s.response, s.images, s.choices) for s in samples} == {("d", "hard", None, (), ())}
    assert len(load(path, size=2)) == 2
    assert len(load(path, size=50)) == 5


def test_defaults(tmp_path: Path) -> None:
    sample = one(tmp_path)
    assert (sample.id, sample.domain, sample.difficulty) == ("d-1", "default", "normal")


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [row()])
    path.write_text(f"\n{path.read_text()}\n\n", encoding="utf-8")
    assert len(load(path)) == 1


@pytest.mark.parametrize(
    ("columns", "question", "response"),
    [
        ({"prompt": "Q?"}, "Q?", None),
        ({"prompt": "Q?", "response": "R"}, "Q?", "R"),
        ({"prompt": [{"role": "user", "content": "Q?"}]}, "Q?", None),
        ({"messages": [{"role": "user", "content": "Q?"}]}, "Q?", None),
        ({"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "R"}]}, "Q?", "R"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q?"}]}]},
            "<image>Q?",
            None,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Q?"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "R"}]},
                ]
            },
            "Q?",
            "R",
        ),
    ],
)
def test_prompts_and_messages(tmp_path: Path, columns: Row, question: str, response: str | None) -> None:
    images = [{"bytes": png()}] if "<image>" in question else []
    path = write_parquet(tmp_path / "d.parquet", [{"answer": "3", "images": images, **columns}])
    sample = load(path)[0]
    assert (sample.question, sample.response) == (question, response)


def test_every_form_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    for images in (["images/a.png"], "images/a.png", {"path": "images/a.png"}, [uri], uri):
        sample = one(tmp_path, images=images)
        assert [image.getpixel((0, 0)) for image in sample.images] == [(10, 0, 0)], images
    assert len(one(tmp_path, image="images/a.png").images) == 1
    assert one(tmp_path, image=None).images == ()
    assert one(tmp_path, images=[]).images == ()
    for column in ({"images": [{"bytes": png(), "path": None}]}, {"image": {"bytes": png(), "path": None}}):
        assert len(load(write_parquet(tmp_path / "d.parquet", [row(**column)]))[0].images) == 1


def test_image_root(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png())
    path = write_jsonl(tmp_path / "rows" / "d.jsonl", [row(images=["a.png"])])
    assert load(path, root=tmp_path / "pictures")[0].images[0].size == (6, 6)
    with pytest.raises(DataError, match=r"row 1: no image at 'a\.png'"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": None}, "needs 'messages' or 'prompt'; found columns ['answer', 'prompt']"),
        ({"prompt": " "}, "needs 'messages' or 'prompt'"),
        ({"prompt": 7}, "needs 'messages' or 'prompt'"),
        ({"prompt": ["a", "b"]}, "needs 'messages' or 'prompt'"),
        ({"prompt": [{"role": "system", "content": "S"}]}, "expected one user turn, found 0"),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "found 2"),
        ({"prompt": [{"role": "user", "content": None}]}, "content must be text or a list of parts, not NoneType"),
        ({"answer": None}, "needs a non-empty 'answer'"),
        ({"answer": ""}, "needs a non-empty 'answer'"),
        ({"answer": float("nan")}, "expected text or a number, found nan"),
        ({"images": ["../x.png"]}, "leads out of"),
        ({"images": ["none.png"]}, "no image at 'none.png'"),
        ({"images": ["https://x.org/a.png"]}, "never fetched"),
        ({"images": [None]}, "an image must be a path"),
        ({"prompt": "<image> and <image>?", "images": []}, "2 <image> marks but there are 0 images"),
        ({"choices": ["a", "b"], "answer": "C"}, "expected a letter A to B or the text of a choice, found 'C'"),
        ({"choices": ["a", "b", "c"], "answer": "AB"}, "found 'AB'"),
        ({"choices": ["a", "a", "b"], "answer": "A"}, "found 'a' twice"),
        ({"choices": [str(i) for i in range(27)], "answer": "3"}, "27 choices; at most 26"),
        ({"choices": "A. one B. two", "answer": "A"}, "'choices' must be a list"),
    ],
)
def test_a_bad_row_is_named_with_its_problem(tmp_path: Path, changes: Row, said: str) -> None:
    assert said in problem(tmp_path, **changes)


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), ("b", "B"), ("4", "B"), (4, "B"), (" B ", "B")])
def test_the_gold_of_a_choice_is_its_letter(tmp_path: Path, answer: Any, letter: str) -> None:
    sample = one(tmp_path, choices=["3", 4, "5"], answer=answer)
    assert (sample.answer, sample.choices) == (letter, ("3", "4", "5"))


@pytest.mark.parametrize(("answer", "gold"), [(3, "3"), (0.5, "0.5"), (" x ", "x"), (0, "0"), (False, "False")])
def test_an_answer_without_choices_is_text(tmp_path: Path, answer: Any, gold: str) -> None:
    assert one(tmp_path, answer=answer).answer == gold


def test_marks_that_match_the_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    assert len(one(tmp_path, prompt="<image> or <image>?", images=["a.png", "a.png"]).images) == 2
    assert len(one(tmp_path, prompt="No mark?", images=["a.png", "a.png"]).images) == 2


def test_a_trace_needs_no_answer_but_grading_does(tmp_path: Path) -> None:
    sample = one(tmp_path, answer=None, response="A caption.")
    assert sample.answer == ""
    with pytest.raises(DataError, match=r"d\.jsonl: sample 'd-1' has no 'answer'"):
        require_answers([sample], "d.jsonl")
    answered = [one(tmp_path)]
    assert require_answers(answered, "d.jsonl") == answered


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"prompt": "a"\n', "line 1: not JSON"),
        (b'{"prompt": "a", "answer": "1"}\n[1]\n', "line 2: expected an object, found list"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b'{"prompt": "\xff"}\n', "cannot be read"),
        (b"", "has no rows"),
    ],
)
def test_broken_json_lines(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.jsonl") as error:
        load(path)
    assert said in str(error.value)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer: run `git lfs pull`"),
        (b"", "it is empty"),
        (b"nonsense " * 50, "cut off, damaged, or of another format"),
    ],
)
def test_broken_tables(tmp_path: Path, suffix: str, content: bytes, said: str) -> None:
    path = tmp_path / f"d.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"d\.{suffix} cannot be read") as error:
        load(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize(("name", "write"), [("d.parquet", write_parquet), ("d.arrow", write_arrow_file)])
def test_truncated_tables(tmp_path: Path, name: str, write: Callable[[Path, list[Row]], Path], share: float) -> None:
    path = write(tmp_path / name, [row(prompt=f"{i} " * 50) for i in range(200)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="cannot be read"):
        load(path)


def test_damage_in_the_middle_of_a_table(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", [row(prompt=f"{i} " * 50) for i in range(200)])
    damaged = bytearray(path.read_bytes())
    damaged[4:400] = bytes(396)
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"d\.parquet"):
        load(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data at"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "d.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"expected \.jsonl, \.parquet"):
        load(tmp_path / "d.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data"):
        load(tmp_path / "empty")


@pytest.mark.parametrize(
    "layout",
    [
        ["{}/data-00000-of-00002.arrow", "{}/data-00001-of-00002.arrow"],
        ["data/{}-00000-of-00002.parquet", "data/{}-00001-of-00002.parquet"],
        ["{}-00000-of-00002.parquet", "{}-00001-of-00002.parquet"],
        ["{}_0.jsonl", "{}_1.jsonl"],
    ],
)
def test_folders_keep_their_splits_apart_and_their_shards_together(tmp_path: Path, layout: list[str]) -> None:
    writers = {".arrow": write_stream, ".parquet": write_parquet, ".jsonl": write_jsonl}
    for split in ("train", "validation", "test"):
        for shard, name in enumerate(layout):
            path = tmp_path / name.format(split)
            writers[path.suffix](path, [row(prompt=f"{split} {shard} {i}") for i in range(3)])
    for split, stored in (("train", "train"), ("val", "validation"), ("test", "test")):
        expected = [f"{stored} {shard} {i}" for shard in range(2) for i in range(3)]
        assert [s.question for s in load(tmp_path, split)] == expected
    assert [s.question for s in load(tmp_path, "train", size=4)] == [f"train {n}" for n in ("0 0", "0 1", "0 2", "1 0")]


def test_a_folder_without_the_split_is_refused(tmp_path: Path) -> None:
    """Falling back on another split would test on what was trained on."""
    write_parquet(tmp_path / "train-00000-of-00001.parquet", [row()])
    with pytest.raises(DataError, match="holds no test split, only train"):
        load(tmp_path, "test")


def test_a_folder_that_names_no_split_is_read_whole(tmp_path: Path) -> None:
    write_stream(tmp_path / "data-00000-of-00002.arrow", [row(prompt="a")])
    write_stream(tmp_path / "data-00001-of-00002.arrow", [row(prompt="b")])
    write_stream(tmp_path / "cache-1234.arrow", [row(prompt="left over")])
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert [s.question for s in load(tmp_path)] == ["a", "b"]


def test_the_world_needs_a_size() -> None:
    with pytest.raises(DataError, match="is endless: give a size"):
        load_samples("world:math", "train", None, 0)
    with pytest.raises(DataError, match="no domain 'maths'"):
        load_samples("world:maths", "train", 1, 0)
    assert len(load_samples("world:math", "train", 3, 0)) == 3


def test_validation_data_default_to_the_training_source() -> None:
    from seethink.config import DataConfig

    data = DataConfig(train="a", train_size=9, val_size=2)
    assert source_and_size(data, "train") == ("a", 9)
    assert source_and_size(data, "val") == ("a", 2)
    assert source_and_size(DataConfig(train="a", val="b"), "val") == ("b", None)


def test_to_sample_keeps_what_it_is_given() -> None:
    given = row(choices=["x", "y"], answer="y", response="R", id=7, domain="d", difficulty="easy")
    sample = to_sample(given, "unused", None)
    assert sample == Sample("7", "How many?", (), "B", ("x", "y"), "d", "easy", "R")


def test_an_epoch_is_a_permutation_that_seed_and_number_decide() -> None:
    assert sorted(shuffled(100, 0, 0)) == list(range(100))
    assert shuffled(100, 0, 0) == shuffled(100, 0, 0)
    assert shuffled(100, 0, 0) != shuffled(100, 0, 1)
    assert shuffled(100, 0, 0) != shuffled(100, 1, 0)


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20, 700])
def test_the_endless_order_goes_on_from_anywhere(start: int) -> None:
    whole = list(islice(endless_order(7, 3), start + 25))
    assert list(islice(endless_order(7, 3, start), 25)) == whole[start:]
    assert all(sorted(whole[i : i + 7]) == list(range(7)) for i in range(0, len(whole) - 6, 7))
