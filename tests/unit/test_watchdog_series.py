"""Watchdogs on recorded series of real nano runs: those that were made to fail raise alarms, the others are not.

`python benchmarks/watchdog_series.py` makes the series again; `--table` prints what docs/watchdogs.md shows.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from seethink.train.hooks.watchdog_rules import Pack

FOLDER = Path(__file__).parents[1] / "data" / "watchdogs"
SERIES = sorted(FOLDER.glob("*.jsonl"))
FALSE = {"normal-2": {"blindness"}}
"""With 16 held-out samples the guard's margin fell below 2 in a run that went well."""
MISSED = {"again": {"repetition"}}
"""The share of repeated 4-grams rose from 0.02 to 0.15, within its limit."""


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    about, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return about, [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]


def alarmed(path: Path) -> dict[str, list[int]]:
    """Watchdog -> the steps of its alarms."""
    about, rows = read(path)
    pack, found = Pack(about["stage"]), dict[str, list[int]]()
    for row in rows:
        for alarm in pack.see(row):
            found.setdefault(alarm.name, []).append(int(row["step"]))
    return found


@pytest.mark.parametrize("path", SERIES, ids=lambda path: path.stem)
def test_recorded(path: Path) -> None:
    about, rows = read(path)
    found = alarmed(path)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    if path.stem.startswith("normal"):
        assert set(found) == FALSE.get(path.stem, set())
    assert set(about["must_bark"]) - set(found) == MISSED.get(path.stem, set())
    assert all(len(steps) == 1 for steps in found.values()), "once an episode of trouble"


def test_there_are_enough_of_both_kinds() -> None:
    normal = [path for path in SERIES if path.stem.startswith("normal")]
    made = {name for path in SERIES for name in read(path)[0]["must_bark"]}
    assert len(normal) >= 4
    assert len(SERIES) - len(normal) >= 5
    assert {"reward_collapse", "length_explosion", "format_loss", "blindness"} <= made
