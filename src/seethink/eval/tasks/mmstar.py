"""MMStar: 1,500 multiple-choice questions that need their image, 250 in each of six categories."""

from __future__ import annotations

import re

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import place_images, select_prompt
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

CATEGORIES = (
    "coarse perception", "fine-grained perception", "instance reasoning", "logical reasoning", "math",
    "science & technology",
)  # fmt: skip
_OPTIONS = re.compile(r"\bOptions:\s*", re.I)
_LETTER = re.compile(r"(?:^|,\s*|\n\s*)([A-H]):\s*")


def _hub(row: Row) -> Item | None:
    question, choices = split_inline(row.text("question"))
    return _item(row, question, choices)


def _tsv(row: Row) -> Item | None:
    return _item(row, row.text("question"), row.options())


def _item(row: Row, question: str, choices: tuple[str, ...]) -> Item:
    text, placed = place_images(select_prompt(question, choices), dict(enumerate(row.images("image"), start=1)))
    meta = {"l2_category": row.text("l2_category", "")}
    gold = row.text("answer")
    return Item(row.text("index"), text, gold, placed, choices, category=row.text("category").lower(), meta=meta)


def split_inline(text: str) -> tuple[str, tuple[str, ...]]:
    """(question, options) of a question that ends `Options: A: red, B: blue`; letters must count up from A.

    >>> split_inline("Which colour?\\nOptions: A: red, dark, B: blue")
    ('Which colour?', ('red, dark', 'blue'))
    """
    marks = list(_OPTIONS.finditer(text))
    if not marks:
        return text, ()
    question, rest = text[: marks[-1].start()].rstrip(), text[marks[-1].end() :]
    starts: list[tuple[int, int]] = []
    for match in _LETTER.finditer(rest):
        if match[1] == chr(ord("A") + len(starts)):
            starts.append((match.start(), match.end()))
    if len(starts) < 2:
        return text, ()
    ends = [start for start, _ in starts[1:]] + [len(rest)]
    return question, tuple(rest[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True))


MMSTAR = Benchmark(
    name="mmstar",
    title="MMStar",
    version="1",
    sources=(
        # The repository has one file, which is not named by its split; copies of it have `val-*.parquet`.
        Source(
            kind="hub",
            name="Lin-Chen/MMStar",
            split="mmstar",
            read=_hub,
            revision="bc98d668301da7b14f648724866e57302778ab27",
        ),
        Source(kind="hub", name="Lin-Chen/MMStar", split="val", read=_hub),
        Source(kind="tsv", name="MMStar", read=_tsv),
    ),
    expect=dict.fromkeys(CATEGORIES, 250),
    prompt="VLMEvalKit's multiple choice",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=70.6,
    peers=of_authors(60.8, 72.5, 70.8, 68.8, 65.1),
    licence="not stated",
)
