"""MMK12, test: 2,000 multiple-choice questions of mathematics, physics, chemistry and biology, partly Chinese."""

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

_OPTION = re.compile(r"(?:^|[\s\n)）])([A-F])\s?[.．、:：)](?!\w*\.\w)")
_ROLE = (
    "Think first: write the reasoning, then the final answer between <answer> and </answer>, with the letter of the "
    "right option in \\boxed{}."
)


def _item(row: Row) -> Item | None:
    question = row.text("question")
    text, placed = place_images(question, dict(enumerate(row.images("image"), start=1)))
    return Item(
        row.text("id"), text, row.text("answer").upper(), placed, options=_options(question),
        category=row.text("subject").lower(), system=_ROLE,
    )  # fmt: skip


def _options(question: str) -> int:
    """Options that the question shows inline; 4 where they cannot be told."""
    letters = sorted(set(_OPTION.findall(question)))
    return len(letters) if letters == list("ABCDEF"[: len(letters)]) and len(letters) > 1 else 4


MMK12 = Benchmark(
    name="mmk12",
    title="MMK12",
    version="1",
    sources=(Source(kind="hub", name="FanqingM/MMK12", read=_item),),
    expect=dict.fromkeys(("math", "physics", "chemistry", "biology"), 500),
    prompt="system: think, then <answer> with a box; image, then question (options inline)",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=78.5,
    peers=of_authors(62.7, 67.4, 70.5, 55.3, 49.9),
    licence="Apache-2.0",
    notes="The test split; the train split of 15k fill-in questions is RL data and must be kept apart.",
)
