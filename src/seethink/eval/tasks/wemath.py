"""WeMath, testmini: 525 problems of two or three steps, each asked whole and step by step (1,740 questions)."""

from __future__ import annotations

from seethink.eval.bench import chance
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.composite import wemath
from seethink.eval.bench.grading import by_rule
from seethink.eval.bench.prompts import lettered, place_images, split_options
from seethink.eval.bench.published import of_authors
from seethink.eval.bench.rows import Row, RowsError
from seethink.eval.bench.sources import Source

_ASK = (
    "Now, we require you to solve a multiple-choice math question. Please briefly describe your thought process and "
    "provide the final answer(option).\nQuestion: {question}\nOption: {options}\nRegarding the format, please answer "
    "following the template below, and be sure to include two <> symbols:\n<Thought process>: <<your thought "
    "process>> <Answer>: <<your option>>"
)


def _own(row: Row) -> Item | None:
    column = "image_path" if row.get("image_path") is not None else "image"
    return _item(row, split_options(row.text("option")), column)


def _tsv(row: Row) -> Item | None:
    return _item(row, list(row.options()), "image")


def _item(row: Row, choices: list[str], column: str) -> Item:
    key, name = row.text("key"), row.text("ID")
    size, _, part = key.partition("steps_")
    if size not in ("2", "3") or part not in ("1", "2", "3", "multi"):
        raise RowsError(f"{row.place}: column 'key': expected 2steps_1 to 3steps_multi, found {key[:40]!r}")
    prompt = _ASK.format(question=row.text("question"), options=lettered(choices).replace("\n", "; "))
    text, placed = place_images(prompt, dict(enumerate(row.images(column), start=1)))
    category = f"S{size}" if part == "multi" else "S1"
    return Item(
        f"{name}/{part}", text, row.text("answer"), placed, tuple(choices), category=category,
        groups={"steps": name, "part": part}, meta={"concept": row.text("knowledge concept", "")},
    )  # fmt: skip


WEMATH = Benchmark(
    name="wemath",
    title="WeMath (strict)",
    version="1",
    sources=(
        Source(kind="hub", name="We-Math/We-Math", split="testmini", read=_own),
        Source(kind="tsv", name="WeMath", read=_tsv),
        Source(kind="json", name="testmini.json", images="", read=_own),
    ),
    expect={"S1": 1215, "S2": 360, "S3": 165},
    prompt="the benchmark's own template of thought process and answer",
    grade=by_rule,
    score=wemath,
    chance=chance.wemath_strict,
    paper=56.5,
    peers=of_authors(37.7, 46.1, 50.6, 48.9, 50.6),
    licence="CC BY-NC 4.0",
    bad_rows={
        "2steps_48/multi": "its options are cut in pieces that repeat the letter C; read up to the first piece of each",
        **dict.fromkeys(
            ("2steps_43/1", "2steps_313/1", "2steps_313/2", "2steps_140/multi", "3steps_126/2"),
            "two options have the same text: either is right",
        ),
    },
    notes="Score over whole groups: what the published formula gives on all 525 of them.",
    whole_groups="steps",
)
