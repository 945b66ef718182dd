"""LogicVista: 447 questions of five kinds of reasoning, mostly with the options in the image."""

from __future__ import annotations

import re

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import as_list, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

SKILLS = {"inductive": 107, "numerical": 95, "deductive": 93, "spatial": 78, "mechanical": 74}
_RANGE = re.compile(r"\bA\s?(?:-|–|to|through)\s?([B-I])\b")
_LETTER = re.compile(r"\b([A-I])\b")


def _own(row: Row) -> Item | None:
    return _item(row, row.text("key_"), "imagename")


def _hub(row: Row) -> Item | None:
    name = row.text("id", "") or row.text("index", "") or row.place.rpartition(" ")[2]
    return _item(row, name, "image")


def _item(row: Row, name: str, column: str) -> Item | None:
    question, gold = row.text("question", ""), row.text("answer", "")
    if not question and not gold:  # v1_382
        return None
    text, placed = place_images(question, dict(enumerate(row.images(column), start=1)))
    skill = as_list(row.get("skill") or row.text("l2-category", "all"))[0]
    options = number_of_options(question, gold)
    return Item(name, text, gold, placed, options=options, category=skill)


def number_of_options(question: str, gold: str) -> int:
    """The letters that a question names, the gold's included; 4 where it names none.

    >>> number_of_options("Select from A, B, and C.", "B"), number_of_options("Which (A-E)?", "A")
    (3, 5)
    """
    named = set(_RANGE.findall(question)) | set(_LETTER.findall(question)) - {"I"} | set(_LETTER.findall(gold))
    highest = max(named - {"A"}, default="D")
    return ord(highest) - ord("A") + 1


LOGICVISTA = Benchmark(
    name="logicvista",
    title="LogicVista",
    version="1",
    sources=(
        Source(kind="json", name="dataset.json", images="images", read=_own),
        Source(kind="hub", name="lscpku/LogicVista", read=_hub),
        Source(kind="tsv", name="LogicVista", read=_hub),
    ),
    expect=SKILLS,
    prompt="the bare question",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=59.7,
    peers=of_authors(53.8, 55.9, 57.1, 60.6, 64.4),
    licence="Apache-2.0",
    bad_rows={
        "v1_382": "has neither question nor answer: left out, as VLMEvalKit does (447 of 448)",
        "v1_20": "the gold is 3 where letters are to choose from: graded as the number 3",
    },
    notes="Three golds are sets of letters and are matched exactly.",
)
