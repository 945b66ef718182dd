"""Fuzzed recipes: whatever stands in the file or on the command line, a recipe comes out or a clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.fuzzing import fuzz, harmless, keeping, kept
from seethink.config import RecipeError, load_recipe, make_recipe, recipe_keys
from seethink.studies.quickstart import recipes_folder

pytestmark = pytest.mark.slow
SHIPPED = [path.read_bytes() for path in sorted(recipes_folder().glob("*.toml"))]
KEYS = sorted(recipe_keys())
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
SNIPPETS = [
    b"[",
    b"]",
    b"=",
    b'"',
    b"'''",
    b"\n",
    b"#",
    b"\x00",
    b"\xff",
    b"nan",
    b"-inf",
    b"1e999",
    b"[[",
    b"{a={",
    b".",
]
SNIPPETS += [b"[" * 3000, b"9" * 5000, b"1979-05-27", b"0x", b"\\ud800", b"model", b"=1\n[data]\n"]


@st.composite
def toml(draw: st.DrawFn) -> bytes:
    """A shipped recipe with a few pieces cut out, repeated or put in."""
    text = draw(st.sampled_from(SHIPPED))
    for _ in range(draw(st.integers(0, 4))):
        start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 30))
        put = draw(st.sampled_from([b"", text[start : start + length] * 2, *SNIPPETS]) | st.binary(max_size=8))
        text = text[:start] + put + text[start + length :]
    return text


def words() -> st.SearchStrategy[list[str]]:
    """`key=value` words: known keys with any value, and anything at all."""
    value = (
        VALUES.map(lambda v: json.dumps(v))
        | st.text(max_size=30)
        | st.sampled_from([s.decode("latin1") for s in SNIPPETS])
    )
    known = st.tuples(st.sampled_from(KEYS), value).map("=".join)
    return st.lists(known | st.text(max_size=40), max_size=4)


def read_file(data: bytes, folder: Path) -> None:
    path = folder / "recipe.toml"
    path.write_bytes(data)
    with harmless(folder):
        check(lambda: load_recipe(path))


def read_words(data: bytes, folder: Path) -> None:
    """The words, one a line of NUL."""
    given_words = data.decode("utf-8", "surrogateescape").split("\0")
    with harmless(folder):
        check(lambda: load_recipe(recipes_folder() / "nano-grpo.toml", given_words))


def check(load: Any) -> None:
    try:
        recipe = load()
    except RecipeError:
        return
    assert make_recipe(json.loads(json.dumps(recipe.as_table()))) == recipe


@given(data=toml())
@fuzz(60, 2000)
def test_any_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with keeping("recipes", data):
        read_file(data, tmp_path_factory.getbasetemp())


@given(found=words())
@fuzz(60, 2000)
def test_any_words(tmp_path_factory: pytest.TempPathFactory, found: list[str]) -> None:
    data = "\0".join(found).encode("utf-8", "surrogatepass")
    with keeping("words", data):
        read_words(data, tmp_path_factory.getbasetemp())


@given(table=st.dictionaries(st.sampled_from([*(k.partition(".")[0] for k in KEYS), "x"]), VALUES, max_size=8))
@fuzz(60, 2000)
def test_any_table(table: dict[str, Any]) -> None:
    check(lambda: make_recipe({"name": "a", "stage": "sft", "out": "b", "data": {"train": "c"}, **table}))


@pytest.mark.parametrize("data", kept("recipes"))
def test_kept_files(data: bytes, tmp_path: Path) -> None:
    read_file(data, tmp_path)


@pytest.mark.parametrize("data", kept("words"))
def test_kept_words(data: bytes, tmp_path: Path) -> None:
    read_words(data, tmp_path)
