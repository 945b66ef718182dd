"""VisuLogic: 1,000 visual puzzles whose four options are in the image; chance is 25%."""

from __future__ import annotations

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

TAGS = {
    "Quantitative Reasoning": 353, "Spatial Reasoning": 231, "Positional Reasoning": 136, "Other": 108,
    "Stylistic Reasoning": 90, "Attribute Reasoning": 82,
}  # fmt: skip
_ASK = (
    "\nSolve the complex visual logical reasoning problem through step-by-step reasoning. Think about the reasoning "
    "process first and answer the question following this format: Answer: \\boxed{$LETTER}"
)


def _item(row: Row) -> Item | None:
    column = "image_path" if row.get("image_path") is not None else "image"
    text, placed = place_images(row.text("question") + _ASK, dict(enumerate(row.images(column), start=1)))
    first = row.text("tag").split()[0].capitalize()
    category = next((tag for tag in TAGS if tag.startswith(first)), row.text("tag"))
    return Item(row.text("id"), text, row.text("label"), placed, options=4, category=category)


VISULOGIC = Benchmark(
    name="visulogic",
    title="VisuLogic",
    version="1",
    sources=(
        Source(kind="json", name="data.jsonl", images="images.zip", read=_item),
        Source(kind="hub", name="VisuLogic/VisuLogic", split="train", read=_item),
        Source(kind="hub", name="evalscope/VisuLogic", split="test", read=_item),
    ),
    expect=TAGS,
    prompt="the benchmark's own: step by step, then the letter in a box",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=28.5,
    peers=of_authors(23.5, 27.7, 26.2, 25.9, 26.3),
    licence="Apache-2.0",
)
