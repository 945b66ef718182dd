"""MathVision, test: 3,040 competition questions of 16 subjects; `mathvision-mini` is its testmini of 304."""

from __future__ import annotations

from dataclasses import replace

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import as_list, lettered, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

SUBJECTS = {
    "metric geometry - angle": 173, "analytic geometry": 84, "metric geometry - length": 449, "arithmetic": 140,
    "metric geometry - area": 500, "combinatorial geometry": 308, "solid geometry": 244, "counting": 67,
    "algebra": 345, "transformation geometry": 168, "combinatorics": 168, "logic": 119, "graph theory": 90,
    "descriptive geometry": 104, "statistics": 58, "topology": 23,
}  # fmt: skip
REPAIRED = {"2521": "11", "2830": "\\frac{36}{13}", "2947": "69"}
_ASK = 'Please solve the problem and put your answer in one "\\boxed{}".'
_ONE_LETTER = ' If it is a multiple choice question, only one letter is allowed in the "\\boxed{}".'


def _hub(row: Row) -> Item | None:
    column = "decoded_image" if row.get("decoded_image") is not None else "image"
    return _item(row, row.text("id"), tuple(as_list(row.get("options"))), row.text("subject"), column)


def _tsv(row: Row) -> Item | None:
    choices = tuple(as_list(row.text("choices", "")))
    return _item(row, row.text("index"), choices, row.text("category"), "image")


def _item(row: Row, name: str, choices: tuple[str, ...], subject: str, column: str) -> Item:
    question = row.text("question")
    prompt = "\n".join(part for part in (_ASK + _ONE_LETTER, question, lettered(choices, "({letter}) {text}")) if part)
    text, placed = place_images(prompt, dict(enumerate(row.images(column), start=1)))
    gold = REPAIRED.get(name, row.text("answer"))
    return Item(name, text, gold, placed, choices, category=subject, meta={"level": row.text("level", "")})


_FILES = {"test": "test.jsonl", "testmini": "testmini.jsonl"}


def _sources(split: str) -> tuple[Source, ...]:
    return (
        Source(
            kind="hub",
            name="MathLLMs/MathVision",
            split=split,
            read=_hub,
            revision="08d26d67d45431e1e88ed7e70f4737615b519aad",
        ),
        Source(kind="tsv", name="MathVision" if split == "test" else "MathVision_MINI", read=_tsv),
        Source(kind="json", name=_FILES[split], images="images.zip", read=_hub),
    )


MATHVISION = Benchmark(
    name="mathvision",
    title="MathVision",
    version="1",
    sources=_sources("test"),
    expect=SUBJECTS,
    prompt="the benchmark's own: solve, answer in one box, one letter for multiple choice",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=52.6,
    peers=of_authors(35.9, 43.1, 38.1, 58.6, 31.2),
    licence="MIT",
    bad_rows={
        "2521": "white space in the gold: repaired",
        "2830": "the gold lost the start of its \\frac to a form feed: repaired",
        "2947": "the gold is 69{degrees}: repaired to 69",
        "59": "the gold is the letter C and there are no options: graded as that letter",
        "434": "the gold is the letter C and there are no options: graded as that letter",
        "1843": "two options have the same text: either is right",
        "1893": "two options have the same text: either is right",
    },
)

MATHVISION_MINI = replace(
    MATHVISION,
    name="mathvision-mini",
    title="MathVision-mini",
    sources=_sources("testmini"),
    expect=dict.fromkeys(SUBJECTS, 19),
    paper=float("nan"),
    peers={},
    bad_rows={},
    notes="The testmini split; the paper's figure is of the whole test split.",
)
