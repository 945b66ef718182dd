"""Results as VLMEvalKit's prediction tables, one file a benchmark and run: TSV, which it advises, and Excel.

Columns are those of its tables (index, question, answer, category, prediction), and `hit`, the grade here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from seethink.core.console import say
from seethink.eval.bench.prompts import MARK
from seethink.eval.bench.results import Results
from seethink.eval.tasks.registry import BENCHMARKS
from seethink.export.benchmarks.answers import answers
from seethink.export.benchmarks.xlsx import write_xlsx

COLUMNS = ("index", "question", "answer", "category", "prediction", "hit")


def export_vlmevalkit(results: Results, out: Path) -> list[Path]:
    """Write `MODEL_DATASET_runK.tsv` and `.xlsx` into the folder `out`; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, score in results.scores.items():
        for run in range(score.runs):
            stem = f"{safe(results.label)}_{dataset_name(name)}_run{run}"
            table, book = out / f"{stem}.tsv", out / f"{stem}.xlsx"
            with table.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, delimiter="\t").writerows(_rows(results, name, run))
            cut = write_xlsx(book, list(_rows(results, name, run)))
            if cut:
                say(
                    f"{book}: {cut:,} cells were cut at Excel's 32,767 characters; {table.name} has them whole",
                    "yellow",
                )
            written += [table, book]
    return written


def dataset_name(name: str) -> str:
    """VLMEvalKit's name of a benchmark, where it has one."""
    sources = BENCHMARKS[name].sources if name in BENCHMARKS else ()
    return next((source.name for source in sources if source.kind == "tsv"), safe(name))


def safe(text: str) -> str:
    """A part of a file's name."""
    return "".join(char if char.isalnum() or char in "-._" else "-" for char in text).lstrip(".") or "model"


def _rows(results: Results, name: str, run: int) -> Iterator[tuple[str, ...]]:
    yield COLUMNS
    for one in answers(results, name, run):
        line = one.line
        question = str(line["question"]).replace(MARK, "")
        hit = "" if one.verdict in (None, "error") else str(int(one.verdict == "correct"))
        yield str(line["id"]), question, str(line["gold"]), str(line["category"]), one.text, hit
