"""PhyX, mini, multiple choice, text-minimal: 1,000 physics questions with the image and the bare question alone."""

from __future__ import annotations

import re

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import lettered, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row, RowsError
from seethink.eval.bench.sources import Source

_QUOTED = re.compile(r"\b([A-D])\s*:\s*\"(.*?)\"(?=\s*(?:,\s*[A-D]\s*:|[,}\s]*$))", re.S)
_LINES = re.compile(r"^\s*([A-D])\s*[:.]\s*(.*?)\s*$", re.M)
_ASK = "Answer with the option's letter from the given choices and put the letter in \\boxed{}."


def _item(row: Row) -> Item | None:
    choices = options(row.get("options"))
    if choices is None:
        raise RowsError(f"{row.place}: column 'options': expected the options A to D, found {row.get('options')!r:.80}")
    prompt = f"{row.text('question')}\n{lettered(choices)}\n{_ASK}"
    text, placed = place_images(prompt, dict(enumerate(row.images("image"), start=1)))
    return Item(
        row.text("id", "") or row.text("index"), text, row.text("answer"), placed, choices,
        category=row.text("category", "all"), meta={"subfield": row.text("subfield", "")},
    )  # fmt: skip


def _tsv(row: Row) -> Item | None:
    if row.options("ABCD"):
        prompt = f"{row.text('question')}\n{lettered(row.options('ABCD'))}\n{_ASK}"
        text, placed = place_images(prompt, dict(enumerate(row.images("image"), start=1)))
        category = row.text("category", "all")
        return Item(row.text("index"), text, row.text("answer"), placed, row.options("ABCD"), category=category)
    return _item(row)


def options(value: object) -> tuple[str, ...] | None:
    """The four option texts of a list, or of one text such as `A:"3 m",B:"4 m"`; None where there are not four.

    >>> options('A:"3 m",B:"4 m",C:"say \\\\"5\\\\"",D:"6 m"')
    ('3 m', '4 m', 'say "5"', '6 m')
    """
    texts = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    for text in (",".join(texts), "\n".join(texts)):
        for pattern in (_QUOTED, _LINES):
            found = pattern.findall(text)
            if [letter for letter, _ in found] == list("ABCD"):
                return tuple(option.replace('\\"', '"').strip() for _, option in found)
    return None


PHYX = Benchmark(
    name="phyx",
    title="PhyX-mc-text-minimal",
    version="1",
    sources=(
        Source(kind="hub", name="Cloudriver/PhyX", split="test_mini", read=_item),
        Source(kind="tsv", name="PhyX_mini_MC_IMG", read=_tsv),
        Source(kind="json", name="PhyX_mini.jsonl", images="images", read=_item),
    ),
    expect={"": 1000},
    prompt="question and options without the description (text-minimal), the letter in a box",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=52.8,
    peers=of_authors(35.2, 40.5, 44.8, 41.6, 43.8),
    licence="MIT",
    notes="1,000 items; the paper does not say whether its figure is of these or of all 3,000.",
)
