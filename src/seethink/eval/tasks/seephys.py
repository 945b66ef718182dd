"""SeePhys: 2,000 open physics questions from middle school to doctoral level, in English and Chinese."""

from __future__ import annotations

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import by_item
from seethink.eval.bench.grading import rounded
from seethink.eval.bench.prompts import place_images
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row
from seethink.eval.bench.sources import Source

_ASK = {
    "English": (
        "Please answer this question with reasoning. First output your reasoning process in <think> </think> tags and "
        "then output the final answer in <answer> </answer> tags."
    ),
    "Chinese": (
        "请用推理来回答这个问题。首先在<think></think>标签中输出推理过程，然后在<answer></answer>标签中输出最终答案。"
    ),
}
_DIGITS = {
    "English": " The final answer should retain {digits} significant figures.",
    "Chinese": " 最终答案应保留{digits}位有效数字。",
}


def _item(row: Row) -> Item | None:
    language = "Chinese" if row.text("language", "English").lower() in ("chinese", "zh", "cn") else "English"
    digits = significant(row.text("sig_figs", ""))
    ask = _ASK[language] + (_DIGITS[language].format(digits=digits) if digits else "")
    columns = [name for name in ("images", "image") if row.get(name) is not None] or ["images"]
    text, placed = place_images(f"{row.text('question')}\n{ask}", dict(enumerate(row.images(columns[0]), start=1)))
    meta = {"digits": digits, "language": language, "level": row.text("level", "")}
    category = row.text("subject", "all")
    return Item(row.text("index"), text, row.text("answer"), placed, category=category, meta=meta)


def significant(text: str) -> int | None:
    """The number of significant figures that a question asks for; None where it asks for none."""
    digits = "".join(char for char in text if char.isdigit() or char == ".")
    return int(float(digits)) if digits and 0 < float(digits) < 20 else None


def _digits(item: Item) -> int | None:
    return item.meta["digits"]  # type: ignore[no-any-return]


SEEPHYS = Benchmark(
    name="seephys",
    title="SeePhys",
    version="1",
    sources=(
        Source(kind="hub", name="SeePhys/SeePhys", split="train", read=_item),
        Source(kind="tsv", name="SeePhys", read=_item),
    ),
    expect={"": 2000},
    prompt="question with a request to think and answer in tags, in its language, and significant figures",
    grade=rounded(_digits, significant=True),
    score=by_item,
    chance=chance.uniform,
    paper=31.5,
    peers=of_authors(22.5, 19.0, 24.2, 34.6, 21.9),
    licence="unknown",
    notes="The benchmark's own page gives 32.0 for Skywork-R1V3.",
)
