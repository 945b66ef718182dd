"""HallusionBench: 951 yes-or-no questions about 346 figures, whose answers change as the figures are changed."""

from __future__ import annotations

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import hallusion
from seethink.eval.bench.grading import yes_no
from seethink.eval.bench.prompts import place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row, RowsError
from seethink.eval.bench.sources import Source

_ASK = "\nPlease answer yes or no."


def _own(row: Row) -> Item | None:
    if row.get("filename") is None:  # 178 questions without an image, which the harnesses drop
        return None
    names = ("category", "subcategory", "set_id", "figure_id", "question_id")
    column = "image" if row.get("image") is not None else "filename"
    return _item(row, *(row.text(name) for name in names), column=column)


def _tsv(row: Row) -> Item | None:
    index = row.text("index")
    parts = index.split("_")
    if len(parts) != 6:
        raise RowsError(f"{row.place}: column 'index': expected SPLIT_VD_ocr_SET_FIGURE_QUESTION, found {index[:60]!r}")
    return _item(row, *parts[1:], column="image")


def _item(row: Row, category: str, kind: str, set_: str, figure: str, question: str, *, column: str) -> Item:
    answer = row.text("gt_answer", "") or row.text("answer")
    if answer not in ("0", "1", "Yes", "No"):
        raise RowsError(f"{row.place}: expected the answer 0, 1, Yes or No, found {answer[:40]!r}")
    group = f"{category}/{kind}/{set_}"
    text, placed = place_images(row.text("question") + _ASK, dict(enumerate(row.images(column), start=1)))
    return Item(
        f"{group}/{figure}/{question}", text, "Yes" if answer in ("1", "Yes") else "No", placed,
        category=f"{category} {kind}", options=2,
        groups={"set": group, "figure": f"{group}/{figure}", "question": f"{group}/q{question}"},
    )  # fmt: skip


HALLUSIONBENCH = Benchmark(
    name="hallusionbench",
    title="HallusionBench",
    version="1",
    sources=(
        Source(kind="hub", name="lmms-lab/HallusionBench", split="image", read=_own),
        Source(kind="tsv", name="HallusionBench", read=_tsv),
        Source(kind="json", name="HallusionBench.json", images="hallusion_bench.zip", read=_own),
    ),
    expect={"": 951},
    prompt="question, then `Please answer yes or no.`",
    grade=yes_no,
    score=hallusion,
    chance=chance.coin,
    paper=61.3,
    peers=of_authors(55.3, 59.1, 55.2, 58.3, 56.2),
    licence="BSD-3-Clause",
    notes="The mean of aAcc, fAcc and qAcc, as the leaderboard's; comparing aAcc alone with it is a known mistake.",
    whole_groups="set",
)
