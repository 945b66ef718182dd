"""MathVerse, vision-only: 788 questions that are written in the picture."""

from __future__ import annotations

import re

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

_COT_CHOICE = (
    "Please first conduct reasoning, and then answer the question and provide the correct option letter, e.g., "
    "A, B, C, D, at the end."
)
_COT_OPEN = (
    "Please first conduct reasoning, and then answer the question and provide the final value, e.g., "
    "1, 2.5, 300, at the end."
)
_CHOICE = re.compile(r"^\s*([A-H])\s*[:.]", re.M)


def _item(row: Row) -> Item | None:
    if row.text("problem_version", "Vision Only").replace("_", " ").lower() != "vision only":
        return None
    is_choice = row.text("question_type") == "multi-choice"
    prompt = row.text("query_cot", "") or (_COT_CHOICE if is_choice else _COT_OPEN)
    text, placed = place_images(prompt, dict(enumerate(row.images("image"), start=1)))
    shown = _CHOICE.findall(row.text("question_for_eval", ""))
    return Item(
        row.text("problem_index"), text, repaired(row.text("answer")), placed,
        options=(len(set(shown)) or 4) if is_choice else 0, category=row.text("question_type"),
    )  # fmt: skip


def repaired(gold: str) -> str:
    """Degree signs that were written in UTF-8 and read as GBK.

    >>> repaired("118\\u63b3T"), repaired("35\\u63b3")
    ('118°T', '35°')
    """
    return gold.replace("\u63b3", "°")


MATHVERSE = Benchmark(
    name="mathverse",
    title="MathVerse vision-only",
    version="1",
    sources=(
        Source(
            kind="hub",
            name="AI4Math/MathVerse",
            split="testmini",
            configs=("testmini",),
            read=_item,
            revision="96641f2457cd16c28be227a47371e41366d9607e",
        ),
        Source(kind="hub", name="CaraJ/MathVerse-lmmseval", split="vision_only", read=_item),
        Source(kind="tsv", name="MathVerse_MINI_Vision_Only", read=_item),
        Source(kind="tsv", name="MathVerse_MINI_Vision_Only_cot", read=_item),
    ),
    expect={"multi-choice": 436, "free-form": 352},
    prompt="the benchmark's `query_cot`: reason first, answer at the end; the question is in the picture",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=59.6,
    peers=of_authors(45.1, 51.0, 57.6, 49.9, 49.9),
    licence="MIT",
    notes="Golds with a mis-decoded degree sign are repaired. `query_wo` asks for a direct answer and is not used.",
)
