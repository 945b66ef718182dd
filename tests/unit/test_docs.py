"""What the documents name exists: families in their table, and the tests that prove its cells."""

from __future__ import annotations

import re
from pathlib import Path

from seethink.models.parts import FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")


def test_the_table_lists_the_families() -> None:
    rows = re.findall(r"^\| [^|]*\(`([\w.-]+)`\) \| ([^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
    assert [name for name, *_ in rows] == list(FAMILIES)
    assert {name: positions for name, _, positions in rows} == {n: f.positions for n, f in FAMILIES.items()}


def test_the_named_tests_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) >= 9
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
