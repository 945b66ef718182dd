"""MMMU, validation: 900 college questions of 30 subjects with 1 to 5 images each."""

from __future__ import annotations

from seethink.data.images import ImageRef
from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import as_list, place_images, select_prompt
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

SUBJECTS = (
    "Accounting", "Agriculture", "Architecture_and_Engineering", "Art", "Art_Theory", "Basic_Medical_Science",
    "Biology", "Chemistry", "Clinical_Medicine", "Computer_Science", "Design", "Diagnostics_and_Laboratory_Medicine",
    "Economics", "Electronics", "Energy_and_Power", "Finance", "Geography", "History", "Literature", "Manage",
    "Marketing", "Materials", "Math", "Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology",
    "Public_Health", "Sociology",
)  # fmt: skip


def _item(row: Row, choices: tuple[str, ...], images: dict[int, ImageRef]) -> Item:
    question = row.text("question")
    prompt = select_prompt(question, choices) if choices else question
    text, placed = place_images(prompt, images)
    subject = row.text("id").removeprefix("validation_").rpartition("_")[0]
    return Item(row.text("id"), text, row.text("answer"), placed, choices, category=subject)


def _hub(row: Row) -> Item | None:
    choices = tuple(as_list(row.get("options"))) if row.text("question_type") == "multiple-choice" else ()
    return _item(row, choices, row.numbered_images(most=7))


def _tsv(row: Row) -> Item | None:
    if not row.text("id").startswith("validation_"):  # the table has the 150 rows of the dev split too
        return None
    return _item(row, row.options(), dict(enumerate(row.images("image"), start=1)))


MMMU = Benchmark(
    name="mmmu",
    title="MMMU",
    version="1",
    sources=(
        Source(
            kind="hub",
            name="MMMU/MMMU",
            configs=SUBJECTS,
            split="validation",
            read=_hub,
            revision="98e6ac0cb9b7b2cd2c991b85a50762edc4aedc68",
        ),
        Source(kind="tsv", name="MMMU_DEV_VAL", read=_tsv),
    ),
    expect=dict.fromkeys(SUBJECTS, 30),
    prompt="VLMEvalKit's multiple choice, images at their marks; open questions are asked bare",
    grade=by_rule,
    score=by_item,
    chance=chance.uniform,
    paper=76.0,
    # The last two: the MiMo-VL report (arXiv 2506.03569), table 4.
    peers=of_authors(70.3, 72.2, 70.3, 75.0, 70.7) | {"InternVL3-8B": 62.7, "Qwen2.5-VL-7B": 58.6},
    licence="Apache-2.0",
    bad_rows={
        "validation_Basic_Medical_Science_10": "an open question whose gold is the letter C: graded as the text C",
    },
    notes="Validation split. Where two golds are listed, either is right.",
)
