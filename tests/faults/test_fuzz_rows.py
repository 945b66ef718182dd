"""Fuzzed data: every row of every column style becomes a sample or a quarantined row with a reason, on time."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.fuzzing import fuzz, harmless, keeping, kept
from helpers.nano import picture
from helpers.rows import load_samples
from seethink.config import ReadConfig
from seethink.data.fields import COMMON
from seethink.data.order import fingerprint
from seethink.data.quarantine import REASONS, DataError, Quarantine
from seethink.data.styles import STYLES

pytestmark = pytest.mark.slow
COLUMNS = sorted({column for style in STYLES for column in (*style.columns, *COMMON)} | {"history", "extra_info"})
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["<image>", "2+2?", "B", "4", "a.png", "../a.png", "data:image/png;base64,AAAA", "http://127.0.0.1/a.png",
         "file:///etc/passwd", "<think>x</think>4", "\\boxed{4}", "<answer>", "\ud800", "\x00", "\u202e", "user", "gpt"]
    ),
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), TEXTS)
KEYS = st.sampled_from(
    ["role", "from", "content", "value", "type", "text", "image_url", "url", "path", "bytes", "ground_truth", "A", "B"]
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=8)
GOOD: list[dict[str, Any]] = [
    {"prompt": "2+2?", "answer": "4"},
    {"problem": "<image>2+2?", "images": ["a.png"], "answer": "4"},
    {"prompt": [{"role": "user", "content": "2+2?"}], "reward_model": {"ground_truth": "4"}, "data_source": "x"},
    {"query": "2+2?", "response": "4", "solution": "4", "history": []},
    {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}], "image": "a.png",
     "completion": [{"role": "assistant", "content": "4"}], "answer": 4},
    {"conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "4"}], "image": "a.png"},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "?"}], "choices": ["a", "b"],
     "answer": "B"},
]  # fmt: skip
ROWS = st.builds(
    lambda good, changes, dropped: {k: v for k, v in {**good, **changes}.items() if k not in dropped},
    st.sampled_from(GOOD),
    st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=3),
    st.lists(st.sampled_from(COLUMNS), max_size=1),
)
CELLS = st.one_of(
    VALUES,
    st.binary(max_size=8),
    st.dates(),
    st.datetimes(),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rows")
    picture(1).save(place / "a.png")
    return place


def read(data: bytes, folder: Path, name: str) -> None:
    """The property: good rows and quarantined ones with a reason are all the rows, or the source is refused."""
    path, left_out = folder / name, folder / "quarantine.jsonl"
    path.write_bytes(data)
    for graded in (False, True):
        left_out.unlink(missing_ok=True)
        config = ReadConfig(max_bad_share=1.0)
        with harmless(folder):
            try:
                samples = load_samples(
                    str(path), "train", None, 0, config=config, quarantine=Quarantine(left_out), graded=graded
                )
            except DataError:
                continue
            fingerprint(samples)
        for sample in samples:
            assert sample.question.strip()
            assert sample.answer or (sample.response and not graded)
            assert all(image.width and image.height for image in sample.images)
        lines = left_out.read_text().splitlines() if left_out.exists() else []
        assert all(json.loads(line)["reason"] in REASONS for line in lines)


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_table(rows: list[dict[str, Any]]) -> bytes:
    """Parquet, its cells made of one kind a column where arrow asks for that."""
    columns = {name: [row.get(name) for row in rows] for name in {key for row in rows for key in row}}
    arrays = {name: _array(values) for name, values in columns.items()}
    found = io.BytesIO()
    pq.write_table(pa.table({name: array for name, array in arrays.items() if array is not None}), found)
    return found.getvalue()


def _array(values: list[Any]) -> pa.Array | None:
    """None where arrow has no column for it, such as a struct without fields."""
    for candidate in (values, [values[0], *(None for _ in values[1:])]):
        try:
            array = pa.array(candidate)
            pq.write_table(pa.table({"x": array}), io.BytesIO())
            return array
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            continue
    return None


@given(rows=st.lists(ROWS, min_size=1, max_size=4))
@fuzz(60, 2000)
def test_any_lines(folder: Path, rows: list[dict[str, Any]]) -> None:
    with keeping("rows", as_lines(rows)):
        read(as_lines(rows), folder, "rows.jsonl")


@given(rows=st.lists(ROWS, min_size=1, max_size=2), cut=st.integers(0, 400), put=st.binary(max_size=6))
@fuzz(60, 2000)
def test_damaged_lines(folder: Path, rows: list[dict[str, Any]], cut: int, put: bytes) -> None:
    data = as_lines(rows)
    data = data[:cut] + put + data[cut + len(put) :]
    with keeping("rows", data):
        read(data, folder, "rows.jsonl")
        read(data, folder, "rows.json")


@given(good=st.sampled_from(GOOD), changes=st.dictionaries(st.sampled_from(COLUMNS), CELLS, max_size=3))
@fuzz(60, 2000)
def test_any_cells(folder: Path, good: dict[str, Any], changes: dict[str, Any]) -> None:
    data = as_table([{**good, **changes}, good])
    with keeping("tables", data):
        read(data, folder, "rows.parquet")


@given(row=ROWS, places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4), end=st.integers(0))
@fuzz(60, 2000)
def test_damaged_tables(folder: Path, row: dict[str, Any], places: list[tuple[int, int]], end: int) -> None:
    data = bytearray(as_table([row]))
    for place, value in places:
        data[place % len(data)] = value
    cut = bytes(data[: max(1, len(data) - end)]) if end else bytes(data)
    with keeping("tables", cut):
        read(cut, folder, "rows.parquet")


@pytest.mark.parametrize("data", kept("rows"))
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_kept_rows(data: bytes, name: str, folder: Path) -> None:
    read(data, folder, name)


@pytest.mark.parametrize("data", kept("tables"))
@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_kept_tables(data: bytes, name: str, folder: Path) -> None:
    read(data, folder, name)
