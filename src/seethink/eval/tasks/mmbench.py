"""MMBench-en 1.1, dev: questions under every rotation of their options; a question is right if all rotations are."""

from __future__ import annotations

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import circular
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import place_images, select_prompt
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row, RowsError
from seethink.eval.bench.sources import Source

_ROTATION = 1_000_000
"""The index of a rotation is that of the question plus a multiple of this."""


def _item(row: Row) -> Item | None:
    index = row.text("index")
    if not index.isdigit():
        raise RowsError(f"{row.place}: column 'index': expected a whole number, found {index[:40]!r}")
    choices = row.options("ABCD")
    prompt = select_prompt(row.text("question"), choices, row.text("hint", ""))
    text, placed = place_images(prompt, dict(enumerate(row.images("image"), start=1)))
    return Item(
        index, text, row.text("answer"), placed, choices, category=row.text("category", "all"),
        groups={"question": str(int(index) % _ROTATION)}, meta={"l2-category": row.text("l2-category", "")},
    )  # fmt: skip


MMBENCH = Benchmark(
    name="mmbench",
    title="MMBench-en-1.1",
    version="1",
    sources=(Source(kind="tsv", name="MMBench_DEV_EN_V11", read=_item),),
    expect={},
    prompt="VLMEvalKit's multiple choice with hint",
    grade=by_rule,
    score=circular,
    chance=chance.circular,
    paper=85.7,
    peers=of_authors(72.6, 87.7, 88.0, 82.0, 84.3),
    licence="Apache-2.0",
    notes=(
        "The dev split, whose answers are public; the paper does not say which split its figure is of. Rotations are "
        "counted as the file holds them: the number of rows is not checked. The hub's lmms-lab/MMBench is version 1.0."
    ),
    whole_groups="question",
)
