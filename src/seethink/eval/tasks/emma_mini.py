"""EMMA-mini, chain of thought: 400 questions of mathematics, physics, chemistry and coding."""

from __future__ import annotations

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import as_list, lettered, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

SUBJECTS = ("Math", "Physics", "Chemistry", "Coding")
_CHOOSE = 'Answer with the option\'s letter from the given choices and put the letter in one "\\boxed{}".'
_OPEN = 'Answer the question using a single word or phrase and put the answer in one "\\boxed{}".'
_STEPS = "Please solve the problem step by step."


def _item(row: Row) -> Item | None:
    choices = tuple(as_list(row.get("options")))
    gold = row.text("answer")
    parts = [row.text("context", ""), row.text("question"), lettered(choices, "{letter}: {text}")]
    prompt = "\n".join([part for part in parts if part] + [_CHOOSE if choices else _OPEN, _STEPS])
    text, placed = place_images(prompt, row.numbered_images(most=5))
    # 21 golds are letters in lower case.
    gold = gold.upper() if choices and len(gold) == 1 else gold
    return Item(row.text("pid"), text, gold, placed, choices, category=row.text("subject"))


EMMA_MINI = Benchmark(
    name="emma-mini",
    title="EMMA-mini (CoT)",
    version="1",
    sources=(
        Source(
            kind="hub",
            name="luckychao/EMMA-mini",
            configs=SUBJECTS,
            read=_item,
            revision="3473c2118ba8be0796cdbeb4d02c96bfbf36e373",
        ),
    ),
    expect=dict.fromkeys(SUBJECTS, 100),
    prompt="the benchmark's own: context, question, options, one box, step by step",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=40.3,
    peers=of_authors(32.0, 38.3, 39.3, 56.5, 36.0),
    licence="not stated",
    bad_rows={
        "chem_1116": "two options have the same text: either letter of that text is right",
        "phy_22": "two options have the same text: either letter of that text is right",
    },
    notes="The mini set of 400, not the 2,788 of EMMA.",
)
