"""Bad rows are left out, counted, written down; too many of them stop a run before it begins."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from helpers.rows import load_samples, read_rows
from seethink.config import ReadConfig, RecipeError, make_reading, make_recipe
from seethink.data.images import ImageRef
from seethink.data.quarantine import MAX_DETAIL, REASONS, DataError, Problem, Quarantine, RowError, problem

Row = dict[str, Any]


def row(**changes: Any) -> Row:
    return {"prompt": "How many?", "answer": "3", **changes}


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def jpeg(side: int = 64) -> bytes:
    noise = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def test_bad_rows_are_left_out_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:500])
    rows = [row(id=f"r{i}") for i in range(100)]
    for i in (10, 20):
        rows[i] = row(id=f"r{i}", image="cut.jpg")
    rows[30] = row(id="r30", answer="")
    source, where = write(tmp_path / "d.jsonl", rows), tmp_path / "run" / "quarantine.jsonl"
    samples = load_samples(source, "train", None, 0, quarantine=where)
    assert [s.id for s in samples] == [f"r{i}" for i in range(100) if i not in (10, 20, 30)]
    found = lines(where)
    assert [(p["file"], p["row"], p["id"], p["reason"]) for p in found] == [
        (source, 11, "r10", "image_unreadable"),
        (source, 21, "r20", "image_unreadable"),
        (source, 31, "r30", "empty_gold"),
    ]
    assert "'cut.jpg' cannot be decoded" in found[0]["detail"]
    assert found[0]["advice"] == "make or download these files again, or drop the rows"
    said = f"3 of 100 rows quarantined (2 unreadable image, 1 empty answer): {where}"
    assert said in capsys.readouterr().out.splitlines()


def test_the_same_data_give_the_same_file(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", [row(image="none.png") if i % 25 == 3 else row() for i in range(200)])
    where = tmp_path / "quarantine.jsonl"
    where.write_text("of an earlier start\n")
    load_samples(source, "train", None, 0, quarantine=where)
    first = where.read_bytes()
    load_samples(source, "train", None, 0, quarantine=where)
    assert where.read_bytes() == first
    assert len(lines(where)) == 8


def test_nothing_is_written_where_nothing_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "quarantine.jsonl"
    where.write_text("of an earlier start\n")
    load_samples(write(tmp_path / "d.jsonl", [row()]), "train", None, 0, quarantine=where)
    assert not where.exists()
    assert "quarantined" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bad", "share", "stops"), [(5, 0.05, False), (6, 0.05, True), (1, 0.0, True), (0, 0.0, False)]
)
def test_too_many_bad_rows_stop(tmp_path: Path, bad: int, share: float, stops: bool) -> None:
    rows = [row(image=f"none{i}.png") if i < bad else row() for i in range(100)]
    source, where = write(tmp_path / "d.jsonl", rows), tmp_path / "q.jsonl"
    config = ReadConfig(max_bad_share=share)
    if not stops:
        assert len(load_samples(source, "train", None, 0, config=config, quarantine=where)) == 100 - bad
        return
    with pytest.raises(DataError) as error:
        load_samples(source, "train", None, 0, config=config, quarantine=where)
    message = str(error.value)
    assert f"{source}: {bad} of 100 rows are bad, more than data.max_bad_share = {share:g} allows: " in message
    for i in range(bad):
        assert (f"{source}, row {i + 1}: no image at 'none{i}.png'" in message) == (i < 3)
    assert f"all of them: {where}" in message
    assert len(lines(where)) == bad


def test_no_row_left_is_an_error_at_any_share(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", [row(image="none.png")] * 3)
    with pytest.raises(DataError, match=r"no good row is left of 3: .*no image at"):
        load_samples(source, "train", None, 0, config=ReadConfig(max_bad_share=1.0))


def test_a_size_counts_good_rows(tmp_path: Path) -> None:
    rows = [row(id=str(i), answer="" if i % 3 == 0 else "1") for i in range(60)]
    source = write(tmp_path / "d.jsonl", rows)
    samples = load_samples(source, "train", 4, 0, config=ReadConfig(max_bad_share=0.5), quarantine=tmp_path / "q.jsonl")
    assert [s.id for s in samples] == ["1", "2", "4", "5"]
    assert [p["id"] for p in lines(tmp_path / "q.jsonl")] == ["0", "3"]


def test_sources_share_a_file_and_are_counted_apart(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q.jsonl")
    for name, bad in (("a", 1), ("b", 2)):
        source = write(tmp_path / f"{name}.jsonl", [row(answer="") if i < bad else row() for i in range(40)])
        load_samples(source, "train", None, 0, quarantine=quarantine)
    assert [Path(p["file"]).name for p in lines(tmp_path / "q.jsonl")] == ["a.jsonl", "b.jsonl", "b.jsonl"]
    more = [Problem("b.jsonl", 9, "x", "special_token", "d")]
    with pytest.raises(DataError, match="3 of 40 rows are bad"):
        quarantine.report(str(tmp_path / "b.jsonl"), more, 0.05)


def test_long_prompts_are_not_bad_rows(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q.jsonl")
    quarantine.report("s", [Problem("s", i, "x", "prompt_too_long", "d") for i in range(9)], 0.0, rows=10)
    assert len(lines(tmp_path / "q.jsonl")) == 9


def test_details_are_short_and_hold_no_bytes(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row(images=[{"bytes": jpeg()[:200] * 50, "path": None}])] + [row(images=[])] * 30)
    path = tmp_path / "d.parquet"
    pa.parquet.write_table(table, path)
    load_samples(str(path), "train", None, 0, quarantine=tmp_path / "q.jsonl")
    (found,) = lines(tmp_path / "q.jsonl")
    assert found["reason"] == "image_unreadable"
    assert len(json.dumps(found)) < 500
    long = problem("f", 1, "i" * 9999, RowError("bad_gold", "x\n" * 9999))
    assert len(long.detail) == len(long.id) == MAX_DETAIL
    assert "\n" not in long.detail


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = write(tmp_path / "d.jsonl", [row(answer="")] + [row()] * 40)
    with pytest.raises(DataError, match="cannot be written"):
        load_samples(source, "train", None, 0, quarantine=tmp_path / "file" / "q.jsonl")


def test_reasons_are_stable_words() -> None:
    """Dashboards match on them: renaming one is a breaking change."""
    assert set(REASONS) == {
        "bad_member",
        "not_json", "missing_column", "bad_message", "multi_turn", "unsupported_media", "image_count", "image_source",
        "image_missing", "image_outside_root", "image_address", "image_unreadable", "image_too_large", "image_aspect",
        "empty_gold", "bad_gold", "bad_choices", "gold_outside_choices", "special_token", "prompt_refused",
        "video_count", "video_source", "video_missing", "video_unreadable", "video_too_large",
        "prompt_too_long", "bad_answer_type", "unread_images", "broken_text", "prompt_beyond_model",
    }  # fmt: skip
    with pytest.raises(AssertionError):
        RowError("nonsense", "x")


def test_the_settings_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(64))
    source = write(tmp_path / "d.jsonl", [row(image="a.jpg"), row()])
    small = [r.problem and r.problem.reason for r in read_rows(source, "train", ReadConfig(max_pixels=64 * 64 - 1))]
    assert small == ["image_too_large", None]
    source = write(tmp_path / "u.jsonl", [row(image="http://127.0.0.1:1/a.jpg"), row()])
    details = []
    for allow in (False, True):
        (first, _) = read_rows(source, "train", ReadConfig(allow_urls=allow))
        assert first.problem is not None
        assert first.problem.reason == "image_address"
        details.append(first.problem.detail)
    assert "set data.allow_urls" in details[0]
    assert "not of the public internet" in details[1]


def test_reading_settings_of_commands_without_a_recipe() -> None:
    assert make_reading([]) == ReadConfig()
    read = make_reading(["data.style=easyr1", "data.max_prompt_tokens=99", "data.allow_urls=true"])
    assert (read.style, read.max_prompt_tokens, read.allow_urls) == ("easyr1", 99, True)
    with pytest.raises(RecipeError, match="'optim': only keys of"):
        make_reading(["optim.lr=1"])
    with pytest.raises(RecipeError, match=r"data\.style: Input should be 'auto'"):
        make_reading(["data.style=alpaca"])
    for override in (
        "data.max_bad_share=1.5",
        "data.max_bad_share=-0.1",
        "data.max_pixels=0",
        "data.max_prompt_tokens=0",
    ):
        table = {"name": "x", "stage": "sft", "out": "o", "data": {"train": "d.jsonl"}}
        with pytest.raises(RecipeError, match=override.partition("=")[0]):
            make_recipe(table, [override])


@pytest.mark.parametrize("form", ["files", "parquet"])
def test_pictures_are_not_kept(tmp_path: Path, form: str) -> None:
    """40 pictures of 12 MB each decoded: what stays is paths, or the encoded bytes (6 kB each)."""
    side, count = 2000, 40
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (9, 9, 9)).save(buffer, "PNG")
    rows: list[Row] = [row(image="a.png") for _ in range(count)]
    if form == "files":
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        source = write(tmp_path / "d.jsonl", rows)
    else:
        source = str(tmp_path / "d.parquet")
        rows = [row(images=[{"bytes": buffer.getvalue(), "path": None}]) for _ in range(count)]
        pa.parquet.write_table(pa.Table.from_pylist(rows), source)
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    try:
        samples = load_samples(source, "train", None, 0)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert psutil.Process().memory_info().rss - before < 300e6
    assert kept < count * (len(buffer.getvalue()) + 10_000)
    assert all(isinstance(s.images[0], ImageRef) and s.images[0].size == (side, side) for s in samples)
    assert samples[0].pictures()[0].size == (side, side)
