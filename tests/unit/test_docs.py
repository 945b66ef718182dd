"""What the documents name exists: families in their table, and the tests that prove what is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seethink.config.coldstart import ColdstartConfig
from seethink.data.fields import IMAGE_COLUMNS
from seethink.data.styles import STATED
from seethink.models.parts import FAMILIES
from seethink.rewards.grader.golds import ANSWER_TYPES

ROOT = Path(__file__).parents[2]


def test_the_table_lists_the_families() -> None:
    page = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]*\(`([\w.-]+)`\) \| ([^|]*) \| ([^|]*) \|", page, re.MULTILINE)
    assert [name for name, *_ in rows] == list(FAMILIES)
    assert {name: positions for name, _, positions in rows} == {n: f.positions for n, f in FAMILIES.items()}


@pytest.mark.parametrize(
    ("page", "least"), [("families.md", 9), ("security.md", 15), ("faults.md", 60), ("report.md", 1), ("tools.md", 2)]
)
def test_the_named_tests_exist(page: str, least: int) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) >= least
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_page_of_data_lists_the_columns_and_types() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name in (*ANSWER_TYPES, *IMAGE_COLUMNS, *STATED["seethink"].columns):
        assert f"`{name}`" in page, name


def test_the_page_of_entropy_names_the_ids_that_are_never_sampled() -> None:
    page = (ROOT / "docs" / "entropy.md").read_text(encoding="utf-8")
    for token in {token for family in FAMILIES.values() for token in family.image_tokens}:
        assert f"`{token.replace('[[]', '[')}`" in page, token


def test_the_page_of_the_cold_start_lists_every_key_and_each_is_read() -> None:
    page = (ROOT / "docs" / "coldstart.md").read_text(encoding="utf-8")
    files = [path for path in (ROOT / "src/seethink").rglob("*.py") if path.parent.name != "config"]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for key, field in ColdstartConfig.model_fields.items():
        assert f"| `{key}` |" in page, key
        assert field.description, key
        assert re.search(rf"(\.{key}\b|\[\"{key}\"\])", source), key
