"""Grades a JSONL file of labelled or unlabelled cases: `seethink grade CASES.jsonl --out VERDICTS.jsonl`."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from seethink.core.files import claim_file, write_json_lines
from seethink.core.types import Grade, Verdict
from seethink.rewards.grader import Item, grade_batch, validate_gold

Row = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """Counts over the labelled cases of one type."""

    right: int = 0
    total: int = 0
    false_positives: int = 0
    negatives: int = 0
    false_negatives: int = 0
    positives: int = 0
    errors: int = 0

    def add(self, expected: bool, verdict: Verdict) -> bool:
        """Count one case; whether the verdict was the expected one."""
        accepted = verdict is Verdict.CORRECT
        wrongly = accepted != expected or verdict is Verdict.ERROR
        self.total += 1
        self.positives += expected
        self.negatives += not expected
        self.false_positives += accepted and not expected
        self.false_negatives += expected and not accepted
        self.errors += verdict is Verdict.ERROR
        self.right += not wrongly
        return not wrongly

    @property
    def accuracy(self) -> float:
        return self.right / max(1, self.total)

    @property
    def false_positive_rate(self) -> float:
        return self.false_positives / max(1, self.negatives)

    @property
    def false_negative_rate(self) -> float:
        return self.false_negatives / max(1, self.positives)


@dataclass(slots=True)
class Summary:
    """The result of one file. Cases without a label (`expected`) are counted in `verdicts` alone."""

    cases: int
    seconds: float
    verdicts: dict[str, int]
    overall: Tally = field(default_factory=Tally)
    by_type: dict[str, Tally] = field(default_factory=dict)
    misses: list[Row] = field(default_factory=list)
    """id, type, expected, verdict, gold, extracted and reason of each case judged other than expected."""


def grade_file(cases: Path, out: Path | None = None) -> Summary:
    """Grade a JSONL file as the reward does.

    Args:
        cases: One JSON object per line: `prediction` and `gold`, optionally `id`, `answer_type`, `choices`, `question`,
            and `expected` (true or false), the verdict of a person. A gold may be a list of texts, each of them right.
            A line that cannot be graded has the verdict `error`.
        out: JSONL file to write: `id`, `verdict`, `extracted` and `reason` of each case.

    Returns:
        Counts of verdicts, seconds, and for cases with `expected` the accuracy and error rates by answer type.

    Raises:
        OSError: `cases` cannot be read, or `out` cannot be written.
        ValueError: `out` is a file that this function did not write.
    """
    start = time.monotonic()
    cases, out = Path(cases), Path(out) if out is not None else None
    if out is not None:
        _check_out(out, cases)
    cases_read = [_read_row(number, line) for number, line in enumerate(_lines(cases), 1) if line.strip()]
    rows = [row for row, _ in cases_read]
    answers = iter(grade_batch([_item(row) for row, problem in cases_read if problem is None]))
    grades = [next(answers) if problem is None else Grade(Verdict.ERROR, None, problem) for _, problem in cases_read]
    if out is not None:
        _write(out, rows, grades)
    return _summary(rows, grades, time.monotonic() - start)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")


def _item(row: Row) -> Item:
    question = row.get("question")
    return (
        row["prediction"],
        _gold(row),
        row.get("answer_type"),
        row.get("choices") or None,
        question if isinstance(question, str) else "",
    )


def _gold(row: Row) -> str:
    gold = row["gold"]
    return json.dumps(gold, ensure_ascii=False) if isinstance(gold, list) else str(gold)


def _read_row(number: int, line: str) -> tuple[Row, str | None]:
    """One case, and what is wrong with a line that cannot be graded."""
    name = f"line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as problem:
        return {"id": name}, f"{name}: expected a JSON object, got {problem}"
    if not isinstance(row, dict):
        return {"id": name}, f"{name}: expected a JSON object, found {type(row).__name__}"
    row.setdefault("id", name)
    try:
        _check(row)
    except ValueError as problem:
        return row, f"{name}: {problem}"
    return row, None


def _check(row: Row) -> None:
    """Raise ValueError where a field is not what the grader takes."""
    prediction, choices, answer_type, gold = (row.get(key) for key in ("prediction", "choices", "answer_type", "gold"))
    if not isinstance(prediction, str):
        found = type(prediction).__name__
        raise ValueError(f"prediction: expected text, found {found}; write the response as a string")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(c, str) for c in choices)):
        raise ValueError("choices: expected a list of texts; write them in the order A, B, C")
    if answer_type is not None and not isinstance(answer_type, str):
        raise ValueError(f"answer_type: expected a text such as 'number', found {type(answer_type).__name__}")
    if isinstance(gold, dict):
        raise ValueError("gold: expected a text, a number or a list of texts, found an object")
    validate_gold(_gold(row) if isinstance(gold, list) else gold, answer_type, choices or None)


def _check_out(out: Path, cases: Path) -> None:
    """Raise ValueError where `out` cannot be written, or is there and no earlier file of verdicts."""
    if out.exists() and cases.exists() and out.samefile(cases):
        raise ValueError(f"--out {out} is the file of cases itself; name another file")
    claim_file(out, _is_verdicts, "a file of verdicts of `seethink grade`")


def _is_verdicts(path: Path) -> bool:
    return all(_is_verdict(line) for line in _lines(path) if line)


def _is_verdict(line: str) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and row.keys() == {"id", "verdict", "extracted", "reason"}


def _write(out: Path, rows: list[Row], grades: list[Grade]) -> None:
    verdicts = (
        {"id": row["id"], "verdict": answer.verdict.value, "extracted": answer.extracted, "reason": answer.reason}
        for row, answer in zip(rows, grades, strict=True)
    )
    write_json_lines(out, verdicts)


def _summary(rows: list[Row], grades: list[Grade], seconds: float) -> Summary:
    verdicts: dict[str, int] = defaultdict(int)
    summary = Summary(len(rows), seconds, {})
    for row, answer in zip(rows, grades, strict=True):
        verdicts[answer.verdict.value] += 1
        if not isinstance(row.get("expected"), bool):
            continue
        kind = str(row.get("answer_type") or "untyped")
        summary.by_type.setdefault(kind, Tally()).add(row["expected"], answer.verdict)
        if not summary.overall.add(row["expected"], answer.verdict):
            summary.misses.append(_miss(row, kind, answer))
    summary.verdicts = dict(verdicts)
    return summary


def _miss(row: Row, kind: str, answer: Grade) -> Row:
    return {
        "id": row["id"],
        "type": kind,
        "expected": row["expected"],
        "verdict": answer.verdict.value,
        "gold": str(row.get("gold")),
        "extracted": answer.extracted,
        "reason": answer.reason,
    }


def render(summary: Summary) -> RenderableType:
    """The summary for a terminal: verdicts, the rates of each type, and the misses."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(summary.verdicts.items()))
    rate = summary.cases / max(summary.seconds, 1e-9)
    parts: list[RenderableType] = [f"{summary.cases} cases in {summary.seconds:.2f} s ({rate:,.0f}/s): {counts}"]
    if summary.overall.total:
        parts += [_rates(summary), *([_misses(summary)] if summary.misses else [])]
    return Group(*parts)


def _rates(summary: Summary) -> Table:
    table = Table("type", "n", "right %", "false positives %", "false negatives %", "errors")
    for name, tally in [*sorted(summary.by_type.items()), ("all", summary.overall)]:
        shares = (tally.accuracy, tally.false_positive_rate, tally.false_negative_rate)
        table.add_row(escape(name), str(tally.total), *(f"{100 * share:.1f}" for share in shares), str(tally.errors))
    return table


def _misses(summary: Summary) -> Table:
    table = Table("id", "expected", "verdict", "gold", "extracted", title="Judged other than expected")
    for miss in summary.misses:
        extracted = _printable(miss["extracted"] or "")
        cells = (str(miss["id"]), str(miss["expected"]), miss["verdict"], miss["gold"], extracted)
        table.add_row(*(escape(_printable(cell)[:80]) for cell in cells))
    return table


def _printable(text: str) -> str:
    """What a model wrote must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
