"""Data files that are damaged, empty or of another kind, folders of them, and data sets of the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.rows import (
    Row,
    load,
    load_samples,
    png,
    read_rows,
    row,
    write_arrow_file,
    write_jsonl,
    write_parquet,
    write_stream,
)
from seethink.config import ReadConfig
from seethink.data.quarantine import DataError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"prompt": "a"\n', "none of the 1 rows is JSON: row 1: not JSON"),
        (b"[1]\n[2]\n", "none of the 2 rows is JSON: row 1: expected an object, found list"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b'{"prompt": "\xff"}\n', "none of the 1 rows is JSON"),
        (b"", "it is empty"),
        (b"\n\n", "has no rows"),
    ],
)
def test_files_without_a_row_of_json(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.jsonl") as error:
        load(path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b'{"prompt": "\xff"}', b"[" * 100_000, b'{"answer": ' + b"9" * 5000 + b"}", b"null", b"\x00"]
)
def test_a_line_that_is_not_json_is_a_bad_row(tmp_path: Path, line: bytes) -> None:
    good = json.dumps(row()).encode()
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join([line, good, b"", line, good]))
    results = list(read_rows(str(tmp_path / "d.jsonl"), "train"))
    assert [(r.row, r.problem and r.problem.reason) for r in results] == [
        (1, "not_json"),
        (2, None),
        (4, "not_json"),
        (5, None),
    ]


def test_json_lists(tmp_path: Path) -> None:
    """Whatever the layout, and however the rows fall on the reader's blocks."""
    rows = [row(prompt=f"{i} " * (1 + i * 997 % 5000), id=f"r{i}", note=[{"]": 1}]) for i in range(400)]
    for indent in (None, 2):
        (tmp_path / "d.json").write_text("\ufeff \n" + json.dumps([*rows, 7], indent=indent), encoding="utf-8")
        results = list(read_rows(str(tmp_path / "d.json"), "train"))
        assert [r.sample.question for r in results if r.sample] == [r["prompt"] for r in rows]
        assert [(r.row, r.problem.reason) for r in results if r.problem] == [(401, "not_json")]
    (tmp_path / "lines.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert len(load(tmp_path / "lines.json")) == 400
    whole = (tmp_path / "d.json").read_bytes()
    (tmp_path / "cut.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=r"cut\.json cannot be read \(its JSON list is cut off or damaged after \d+ rows"
    ):
        load(tmp_path / "cut.json")


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


def test_a_saved_folder_has_the_shards_that_its_state_names(tmp_path: Path) -> None:
    for split, names in (("train", ("b.arrow", "a.arrow")), ("test", ("c.arrow",))):
        for name in names:
            write_stream(tmp_path / split / name, [row(prompt=f"{split} {name}")])
        state = {"_data_files": [{"filename": name} for name in names]}
        (tmp_path / split / "state.json").write_text(json.dumps(state))
    write_stream(tmp_path / "train" / "left-over.arrow", [row(prompt="old")])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert [s.question for s in load(tmp_path)] == ["train b.arrow", "train a.arrow"]
    assert [s.question for s in load(tmp_path, "test")] == ["test c.arrow"]
    assert [s.question for s in load(tmp_path / "test", "train")] == ["test c.arrow"]
    for name in ("gone.arrow", "../train/a.arrow"):
        (tmp_path / "test" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(DataError, match="lacks the data file"):
            load(tmp_path, "test")


def test_a_folder_of_json_lists(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps([row(prompt="a")]))
    (tmp_path / "test.json").write_text(json.dumps([row(prompt="b")]))
    (tmp_path / "dataset_info.json").write_text("{}")
    assert [s.question for s in load(tmp_path, "test")] == ["b"]


def test_a_hub_name_is_fetched_only_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no data at 'org/name'; .* set data\.allow_download=true"):
        load_samples("org/name", "train", None, 0)
    for source in ("none.jsonl", "a/b/c", "./org/name", "/org/name", "org/"):
        with pytest.raises(DataError, match=r"no data at .*; give a file, a folder"):
            load_samples(source, "train", None, 0, config=ReadConfig(allow_download=True))


def test_data_sets_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own loading, on a local data set: there is no network here."""
    datasets = pytest.importorskip("datasets")
    from seethink.data import dataset as module
    from seethink.data.hub import open_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    features = datasets.Features(
        {"problem": datasets.Value("string"), "answer": datasets.Value("string"), "images": [datasets.Image()]}
    )
    for split in ("train", "validation"):
        rows = [{"problem": f"<image>{split} {i}", "answer": str(i), "images": [{"bytes": png()}]} for i in range(40)]
        (folder / "data").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "data" / f"{split}-0.parquet")
    rows, _ = open_hub(str(folder), "val")
    assert [r.data["problem"] for r in rows] == [f"<image>validation {i}" for i in range(40)]
    with pytest.raises(DataError, match="holds no test split, only train, validation"):
        open_hub(str(folder), "test")
    with pytest.raises(DataError, match=r"'org/none:main' cannot be loaded"):
        open_hub("org/none:main", "train")
    monkeypatch.setattr(module, "open_hub", lambda source, split: open_hub(str(folder), split))
    samples = load_samples("org/name", "train", 3, 0, config=ReadConfig(allow_download=True))
    assert [(s.question, s.answer, s.pictures()[0].getpixel((0, 0))) for s in samples] == [
        (f"<image>train {i}", str(i), (10, 0, 0)) for i in range(3)
    ]


def test_without_the_datasets_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'seethink\[hub\]'"):
        load_samples("org/name", "train", None, 0, config=ReadConfig(allow_download=True))


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


@pytest.mark.parametrize(
    ("suffix", "write"),
    [(".jsonl", write_jsonl), (".parquet", write_parquet), (".arrow", write_stream), (".arrow", write_arrow_file)],
)
def test_a_file_name_that_is_not_utf_8(
    tmp_path: Path, suffix: str, write: Callable[[Path, list[Row]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe" + suffix.encode())
    write(tmp_path / f"plain{suffix}", [row(), row(answer="")]).rename(path)
    config = ReadConfig(max_bad_share=0.5)
    (sample,) = load_samples(str(path), "train", None, 0, config=config, quarantine=tmp_path / "q.jsonl")
    assert sample.id == "\\udcff\\udcfe-1"
    said = capsys.readouterr().out + (tmp_path / "q.jsonl").read_text() + sample.meta["file"]
    assert "2 rows in seethink columns" in said
    assert said.encode()
    with pytest.raises(DataError, match="1 of 2 rows are bad") as error:
        load_samples(str(path), "train", None, 0)
    assert str(error.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data at"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "d.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"expected \.jsonl, \.json, \.parquet"):
        load(tmp_path / "d.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data"):
        load(tmp_path / "empty")
