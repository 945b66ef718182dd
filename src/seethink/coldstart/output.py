"""The data set of a cold start: rows that SFT reads, their pictures, and a data card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seethink.coldstart import funnel, parquet
from seethink.coldstart.questions import IMAGES, Questions
from seethink.coldstart.select import Outcome
from seethink.coldstart.store import Store
from seethink.core.errors import UserError
from seethink.core.files import WAITING, replacing, write_json, write_text
from seethink.core.redact import redact, visible

FOLDER, TRAIN, VAL, CARD, COUNTS = "data", "train", "val", "README.md", "funnel.json"
COLUMNS = (
    "id", "question", "images", "answer", "answer_type", "choices", "domain", "difficulty", "system", "response",
    "trace",
)  # fmt: skip


def write_data(
    folder: Path, store: Store, questions: Questions, outcomes: Sequence[Outcome], about: dict[str, Any]
) -> Path:
    """Write `data/`: train and val, images/, README.md and funnel.json, the same bytes for the same selection.

    `about` is what the card says of teacher and settings; `coldstart.format` in it says what train and val are: JSONL
    beside the images, or Parquet with them inside. Raises UserError where the folder cannot be written.
    """
    target = folder / FOLDER
    within = about["settings"]["coldstart"]["format"] == "parquet"
    try:
        (target / IMAGES).mkdir(parents=True, exist_ok=True)
        _link_pictures(folder, target, [] if within else outcomes)
        for name, held in ((TRAIN, False), (VAL, True)):
            chosen = [outcome for outcome in outcomes if outcome.chosen and outcome.is_validation is held]
            rows = _rows(store, chosen)
            (target / f"{name}.{'jsonl' if within else 'parquet'}").unlink(missing_ok=True)
            if within:
                parquet.write_rows(target / f"{name}.parquet", rows, COLUMNS, folder)
            else:
                _write_rows(target / f"{name}.jsonl", rows)
        write_json(target / COUNTS, funnel.as_table(questions, outcomes))
        write_text(target / CARD, card(questions, outcomes, about))
        if within:
            (target / IMAGES).rmdir()
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}; make room and give the command again") from None
    return target


def _rows(store: Store, outcomes: Iterable[Outcome]) -> Iterator[dict[str, Any]]:
    for outcome in outcomes:
        q = outcome.question
        for number, key in enumerate(outcome.chosen):
            row = {
                "id": q.id if len(outcome.chosen) == 1 else f"{q.id}-{number}",
                "question": q.question,
                "images": q.images,
                "answer": q.answer,
                "answer_type": q.answer_type,
                "choices": q.choices,
                "domain": q.domain,
                "difficulty": q.difficulty,
                "system": q.system,
                "response": store.traces[key]["text"],
                "trace": key,
            }
            yield {name: value for name, value in row.items() if value not in (None, "", [])}


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace the file in one move; a file without rows goes."""
    count = 0
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            count += 1
    if not count:
        path.unlink()


def _link_pictures(folder: Path, target: Path, outcomes: Iterable[Outcome]) -> None:
    """The pictures of the selected questions and no others; links to the same file where the disk has links."""
    wanted = {name for outcome in outcomes if outcome.chosen for name in outcome.question.images}
    there = {f"{IMAGES}/{path.name}" for path in (target / IMAGES).iterdir()}
    for name in there - wanted:
        (target / name).unlink()
    for name in sorted(wanted - there):
        try:
            os.link(folder / name, target / name)
        except OSError:
            waiting = target / f"{name}{WAITING}"
            shutil.copyfile(folder / name, waiting)
            os.replace(waiting, target / name)


# ---- the card


def card(questions: Questions, outcomes: Sequence[Outcome], about: dict[str, Any]) -> str:
    """What the data are and how they were made, as Markdown."""
    counts = funnel.funnel(questions, outcomes)
    license, form = (about["settings"]["coldstart"][key] for key in ("license", "format"))
    lines = ["---", f"license: {json.dumps(license)}", "---"] if license else []
    lines += [
        "# Reasoning traces with images",
        "",
        f"{counts.traces:,} traces of {counts.selected:,} questions, {counts.validation:,} of which are held out "
        f"(`{VAL}.{form}`). Each row has a question with its images, the gold answer, and a response "
        "`<think>...</think>answer` whose answer was graded as right. Made by `seethink coldstart`.",
        "",
        "| | |",
        "|---|---|",
        f"| Questions | {_cell(questions.about['identity']['source'])} |",
        f"| Licence of the questions | {_cell(license or 'not stated')} |",
        f"| Teacher | {_cell(about['teacher'])} |",
        f"| Graded by | {_cell(about['grader'])} |",
        f"| Reward model | {_cell(about['reward_model'])} |",
        f"| Judged by | {_cell(about['judge'])} |",
        f"| Benchmarks kept out | {_cell(', '.join(questions.about['identity']['against']) or 'not checked')} |",
        f"| Lengths counted in | {_cell(about['tokens'])} |",
        "",
        "## Funnel",
        "",
        "| Questions | |",
        "|---|---:|",
        *(f"| {name} | {count:,} |" for name, count in counts.steps()),
        "",
        "| Not selected, first reason | questions |",
        "|---|---:|",
        *(f"| {_word(reason)} | {n:,} |" for reason, n in funnel.first_reasons(questions, outcomes).items()),
        "",
        "| Samples not taken | first reason | any reason |",
        "|---|---:|---:|",
        *(f"| {_word(reason)} | {n:,} | {every:,} |" for reason, n, every in funnel.trace_reasons(outcomes)),
        "",
        "| Part | asked | pass@1 | pass@n | selected | median tokens |",
        "|---|---:|---:|---:|---:|---:|",
        *(_part(part) for part in funnel.parts(outcomes)),
        "",
        "Right answers by who decided: "
        + (", ".join(f"{name} {n:,}" for name, n in funnel.by_decider(outcomes).items()) or "none")
        + ".",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(redact(about["settings"]), indent=2, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def _part(part: funnel.Part) -> str:
    shares = ["–" if share is None else f"{100 * share:.1f} %" for share in (part.pass_1, part.pass_n)]
    tokens = "–" if part.tokens is None else f"{part.tokens:,.0f}"
    return f"| {_cell(part.name)} | {part.asked:,} | {shares[0]} | {shares[1]} | {part.selected:,} | {tokens} |"


def _word(reason: str) -> str:
    return _cell(funnel.words_of(reason))


def _cell(text: str) -> str:
    """Text that does not end its cell or its line, nor begin HTML."""
    plain = " ".join(visible(text).split())
    return plain.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
