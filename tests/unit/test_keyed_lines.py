"""Append-only files: what a killed process leaves, and that texts stay on the disk. Benchmarks put theirs in order
(`test_bench_stores.py`)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from seethink.coldstart.records import Records
from seethink.core.errors import UserError
from seethink.runs.keyed_lines import KeyedLines


def opened(path: Path) -> Records[int]:
    return Records(path, lambda record: record["n"])


def test_the_last_object_of_a_key_counts(tmp_path: Path) -> None:
    with opened(tmp_path / "a.jsonl") as records:
        for key, n in (("a", 1), ("b", 2), ("a", 3)):
            records.add({"key": key, "n": n, "text": f"ü {n}"})
        assert records["a"] == {"key": "a", "n": 3, "text": "ü 3"}
    with opened(tmp_path / "a.jsonl") as records:
        assert (records.summaries, len(records)) == ({"a": 3, "b": 2}, 2)
        assert [record["n"] for record in records] == [3, 2]
        assert records.get("b")["text"] == "ü 2"
        assert records.get("c") == {}


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_line_goes_and_the_file_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    with opened(path) as records:
        for n in range(3):
            records.add({"key": str(n), "n": n, "text": "some words"})
    path.write_bytes(path.read_bytes()[:-cut])
    with opened(path) as records:
        assert list(records.summaries) == ["0", "1"]
        records.add({"key": "9", "n": 9})
        assert records["9"]["n"] == 9
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 9]


def test_damaged_lines_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"key": "a", "n": 1}\nnot json\n[1]\n{"key": "b"}\n{"key": "c", "n": 3}\n')
    with opened(path) as records:
        assert records.summaries == {"a": 1, "c": 3}
        assert records["c"]["n"] == 3
    assert "3 lines are damaged and left out" in capsys.readouterr().out


def test_half_of_a_character_can_be_stored(tmp_path: Path) -> None:
    with opened(tmp_path / "a.jsonl") as records:
        records.add({"key": "a", "n": 1, "text": "\ud83d"})
        assert records["a"]["text"] == "\ud83d"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        opened(tmp_path)


def test_many_objects_are_written_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with KeyedLines(tmp_path / "new" / "a.jsonl") as store:
        store.append({"key": key, "n": n} for n, key in enumerate("ab"))
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:9]))
        with pytest.raises(UserError, match="make room"):
            store.append([{"key": "c", "n": 2}, {"key": "d", "n": 3}])
        monkeypatch.undo()
        assert list(store.keys()) == ["a", "b"]
        store.append([{"key": "e", "n": 4}])
        assert [one["n"] for one in store.read("eb")] == [4, 1]
    assert [line[8] for line in (tmp_path / "new" / "a.jsonl").read_text().splitlines()] == ["a", "b", "e"]
