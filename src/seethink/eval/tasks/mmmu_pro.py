"""MMMU-Pro: 1,730 questions with ten options, the same in a picture (vision), and the same with four options."""

from __future__ import annotations

from seethink.data.images import ImageRef
from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import mmmu_pro
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import as_list, lettered, place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

VARIANTS = {"standard (10 options)": "standard 10", "vision": "vision", "standard (4 options)": "standard 4"}
_STEPS = (
    "Answer the preceding multiple choice question. The last line of your response should be of the following format: "
    "'Answer: $LETTER' (without quotes) where LETTER is one of options. Think step by step before answering."
)
_VISION = "Write out the multiple-choice question in the image and then solve it. " + _STEPS.partition(". ")[2]


def _hub(row: Row) -> Item | None:
    variant = VARIANTS[row.config]
    choices = tuple(as_list(row.get("options")))
    images = dict(enumerate(row.images("image"), start=1)) if variant == "vision" else row.numbered_images(most=7)
    return _item(row, variant, choices, images)


def _item(row: Row, variant: str, choices: tuple[str, ...], images: dict[int, ImageRef]) -> Item:
    if variant == "vision":
        text, placed = place_images(_VISION, images)
    else:
        text, placed = place_images(f"{row.text('question')}\n{lettered(choices)}\n{_STEPS}", images)
    groups = {"question": row.text("id"), "variant": variant}
    name, gold, meta = f"{variant}/{row.text('id')}", row.text("answer"), {"subject": row.text("subject")}
    return Item(name, text, gold, placed, choices, category=variant, groups=groups, meta=meta)


_EQUAL = (
    "test_Pharmacy_140", "test_Computer_Science_61", "test_Finance_96", "validation_Computer_Science_12",
    "validation_Basic_Medical_Science_1", "validation_Geography_1", "validation_Music_13",
    "validation_Mechanical_Engineering_7", "validation_Electronics_13",
)  # fmt: skip

MMMU_PRO = Benchmark(
    name="mmmu-pro",
    title="MMMU-Pro",
    version="1",
    sources=(
        Source(
            kind="hub",
            name="MMMU/MMMU_Pro",
            configs=tuple(VARIANTS),
            read=_hub,
            revision="b037bbe72fe851ae9c9a792c7b34722542d4dc78",
        ),
    ),
    expect=dict.fromkeys(VARIANTS.values(), 1730),
    prompt="the benchmark's own chain of thought; options at `Answer: $LETTER`",
    grade=by_rule,
    score=mmmu_pro,
    chance=chance.mmmu_pro,
    paper=55.4,
    peers=of_authors(46.9, 48.6, 51.1, 50.0, 54.5),
    licence="Apache-2.0",
    bad_rows={f"standard 10/{name}": "options with equal texts: either letter is right" for name in _EQUAL}
    | {"standard 10/validation_Accounting_29": "one option, whose letter is not the gold B: wrong whatever is said"},
    notes="The mean of ten options and vision, which is the benchmark's overall figure; four options are reported too.",
    whole_groups="question",
)
