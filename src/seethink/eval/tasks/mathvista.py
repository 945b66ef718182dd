"""MathVista, testmini: 1,000 questions, 540 with options and 460 open ones with a unit and a precision."""

from __future__ import annotations

import re

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import rounded
from seethink.eval.bench.prompts import as_list, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

_OPTION = re.compile(r"^\(([A-Z])\)\s*(.*)$", re.M)


def _hub(row: Row) -> Item | None:
    column = "decoded_image" if row.get("decoded_image") is not None else "image"
    return _item(row, row.text("pid"), row.text("query"), tuple(as_list(row.get("choices"))), column)


def _tsv(row: Row) -> Item | None:
    query = row.text("question")  # the table's question is the hub's query
    choices = tuple(text.strip() for _, text in _OPTION.findall(query.rpartition("Choices:")[2]))
    is_choice = row.text("question_type", "") == "multi_choice"
    return _item(row, row.text("index"), query, choices if is_choice else (), "image")


def _item(row: Row, name: str, query: str, choices: tuple[str, ...], column: str) -> Item:
    text, placed = place_images(query, dict(enumerate(row.images(column), start=1)))
    kind = row.text("answer_type", "text")
    gold = row.text("answer_option", "") or row.text("answer")
    if choices and gold in choices:
        gold = chr(ord("A") + choices.index(gold))
    precision = row.text("precision", "")
    digits = 0 if kind == "integer" else int(float(precision)) if kind == "float" and precision else None
    meta = {"answer_type": kind, "precision": digits, "unit": row.text("unit", "")}
    category = row.text("question_type")
    return Item(name, text, gold, placed, choices, category=category, meta=meta)


def _digits(item: Item) -> int | None:
    digits = item.meta["precision"]
    # An integer question is not answered by a fraction that happens to be near.
    return digits if digits else None


MATHVISTA = Benchmark(
    name="mathvista",
    title="MathVista-mini",
    version="1",
    sources=(
        Source(
            kind="hub",
            name="AI4Math/MathVista",
            split="testmini",
            read=_hub,
            revision="2b6ad69445fbb5695c9b165475e8decdbeb97747",
        ),
        Source(kind="tsv", name="MathVista_MINI", read=_tsv),
    ),
    expect={"multi_choice": 540, "free_form": 460},
    prompt="the benchmark's `query`: hint by kind of answer, question with unit, choices",
    grade=rounded(_digits, significant=False),
    score=by_item,
    chance=chance.uniform,
    paper=77.1,
    peers=of_authors(71.4, 79.0, 74.8, 66.8, 62.9),
    licence="CC BY-SA 4.0 (images: their owners')",
    bad_rows={
        "587": "two options have the same text: either is right",
        "740": "two options have the same text: either is right",
        "781": "the gold's text is given twice: either letter is right",
    },
    notes="Floats are rounded to the item's precision before they are compared; no answer is taken by likeness.",
)
