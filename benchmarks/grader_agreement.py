"""How far the rule grader agrees with the official verdicts on published responses, and why it does not.

    python benchmarks/grader_agreement.py OUTPUTS.jsonl.xz [--out benchmarks/grader_agreement_DATE.md]
    python benchmarks/grader_agreement.py OUTPUTS.jsonl.xz --show 200 --seed 0    # disagreements to read
    python benchmarks/grader_agreement.py OUTPUTS.jsonl.xz --sample 1500          # a seeded sample

One JSON object a line: `benchmark`, `question`, `options`, `gold`, `response` and `official` (bool). Each response is
graded as training and evaluation grade it, without a verifier. Every disagreement is of one kind of `KINDS`, found from
the response and from the grader's reason; what is written holds counts alone, never a response.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from seethink.core.types import Grade, Verdict
from seethink.rewards.grader import Item, grade_batch

Row = dict[str, Any]
BATCH = 512

KINDS = {
    # kind: (whose verdict is right, what it is)
    "empty": ("ours", "official yes: the response is empty; the official scorer takes the nearest option"),
    "refusal": ("ours", "official yes: it says that it cannot answer; the official scorer takes the nearest option"),
    "options listed": ("ours", "official yes: a list of options, none of them chosen"),
    "another option": ("ours", "official yes: it states another option than the gold, or several"),
    "another value": ("ours", "official yes: it states another value than the gold, within the official tolerance"),
    "letter against text": ("undecidable", "official yes: a letter beside the text of another option, or of none"),
    "not among the options": ("ours", "official yes: it states something that no option says"),
    "unread sentence": ("theirs, a third", "official yes: a sentence that no rule reads; the verifier is for these"),
    "option's text": ("ours", "official no: the right option by its text, or by its letter and text"),
    "unit beside the number": ("ours", "official no: the right number with its unit, where the gold has none"),
    "another spelling": ("ours", "official no: the right value or word, written in another way"),
    "right letter": ("ours", "official no: the right letter, which the official extraction missed"),
}
_REFUSES = re.compile(
    r"(?:can(?:no|')t|cannot|unable to|not able to|impossible to) (?:be )?(?:\w+ )?(?:determine|identif|provide|view|"
    r"see|answer|comply|assist|help|tell|process|extract|find|make|access|interpret|solve|calculate|compare|be)"
    r"|(?:does|do)(?:n't| not) (?:provide|contain|include|have|specify|give|mention|show|match)|not enough|"
    r"insufficient|"
    r"incomplete|is missing|not (?:clear|valid|possible|visible|available|given|provided|in the options)|"
    r"mistake in the question|none of the|please provide|sorry|no (?:information|image|picture|graph|table)",
    re.I,
)
_LISTED = re.compile(r"^\s*\(?[A-Z]{1,2}\)", re.M)
_LETTER_FIRST = re.compile(r"(?:the (?:correct )?(?:answer|option) is\s*)?[(\[]?([A-Z])[)\].:]", re.I)


def kind_of(row: Row, grade: Grade) -> str:
    """The kind of a disagreement."""
    response = row["response"].strip()
    if row["official"]:
        return _official_yes(row, grade, response)
    if not row["options"]:
        return "unit beside the number" if re.search(r"\d\W*[^\W\d]|[%°]", response) else "another spelling"
    said = response.strip(" .()")
    return "right letter" if len(said) == 1 else "option's text"


def _official_yes(row: Row, grade: Grade, response: str) -> str:
    if grade.verdict is Verdict.NO_ANSWER and not re.search(r"\w", response):
        return "empty"
    if len(_LISTED.findall(response)) > 1 and len(_LISTED.findall(response)) >= len(response.splitlines()):
        return "options listed"
    stated = re.match(r"(?:choice|letter): ([A-Z]),", grade.reason)
    first = _LETTER_FIRST.match(response)
    if stated:
        return "another option"
    if _REFUSES.search(response):
        return "refusal"
    if first and row["options"]:
        return "letter against text"
    if not row["options"]:
        return "unread sentence" if "nothing that can be read" in grade.reason else "another value"
    short = (grade.extracted or "").strip(" .$*()")
    return "not among the options" if re.fullmatch(r"[-\d.,/ ]+\W*\w{0,8}\W*", short) else "unread sentence"


def item(row: Row) -> Item:
    return row["response"], str(row["gold"]), None, row["options"] or None, row["question"]


def graded(rows: list[Row]) -> list[Grade | None]:
    """One grade a row; None for a gold that no response could match."""
    grades: list[Grade | None] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        try:
            grades += grade_batch([item(row) for row in part])
        except ValueError:
            grades += [_alone(row) for row in part]
    return grades


def _alone(row: Row) -> Grade | None:
    try:
        return grade_batch([item(row)])[0]
    except ValueError:
        return None


def tables(rows: list[Row], grades: list[Grade | None], seconds: float) -> str:
    """Agreement by benchmark, then the disagreements by kind, in Markdown."""
    pairs = [(row, grade) for row, grade in zip(rows, grades, strict=True) if grade is not None]
    apart = [(row, grade) for row, grade in pairs if (grade.verdict is Verdict.CORRECT) != row["official"]]
    names = sorted({row["benchmark"] for row in rows})
    lines = [
        "| benchmark | responses | agreement % | official yes, ours no | official no, ours yes | errors | bad golds |"
    ]
    lines.append("|---" * 7 + "|")
    for name in names:
        own = [grade for row, grade in zip(rows, grades, strict=True) if row["benchmark"] == name]
        yes = sum(row["benchmark"] == name and row["official"] for row, _ in apart)
        no = sum(row["benchmark"] == name and not row["official"] for row, _ in apart)
        known = [grade for grade in own if grade is not None]
        errors = sum(grade.verdict is Verdict.ERROR for grade in known)
        share = 100 * (1 - (yes + no) / len(known))
        lines.append(f"| {name} | {len(own):,} | {share:.2f} | {yes} | {no} | {errors} | {len(own) - len(known)} |")
    lines += ["", f"{seconds:.1f} CPU seconds for {len(rows):,} responses.", ""]
    counts = Counter((kind_of(row, grade), row["benchmark"]) for row, grade in apart)
    lines.append(f"| kind | right | {' | '.join(names)} | what it is |")
    lines.append("|---" * (3 + len(names)) + "|")
    for kind, (right, said) in KINDS.items():
        each = " | ".join(str(counts[kind, name]) for name in names)
        lines.append(f"| {kind} | {right} | {each} | {said} |")
    return "\n".join(lines) + "\n"


def show(rows: list[Row], grades: list[Grade | None], count: int, seed: int) -> None:
    """Print disagreements drawn at random, to be read."""
    apart = [
        (place, row, grade)
        for place, (row, grade) in enumerate(zip(rows, grades, strict=True))
        if grade is not None and (grade.verdict is Verdict.CORRECT) != row["official"]
    ]
    for place, row, grade in random.Random(seed).sample(apart, min(count, len(apart))):
        response = row["response"]
        response = response if len(response) < 900 else f"{response[:300]} [...] {response[-550:]}"
        print(f"--- {place} {row['benchmark']} official {row['official']}, ours {grade.verdict}: {kind_of(row, grade)}")
        print(
            f"Q {row['question'][-250:]!r}\noptions {row['options']} gold {row['gold']!r}\n"
            f"R {response!r}\n{grade.reason}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--out", type=Path, help="Markdown file for the tables")
    parser.add_argument("--sample", type=int, default=0, help="grade a seeded sample of this size alone")
    parser.add_argument("--show", type=int, default=0, help="print this many disagreements")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    opened = lzma.open if arguments.outputs.suffix == ".xz" else open
    with opened(arguments.outputs, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if arguments.sample:
        rows = random.Random(arguments.seed).sample(rows, min(arguments.sample, len(rows)))
    start = time.process_time()
    grades = graded(rows)
    text = tables(rows, grades, time.process_time() - start)
    if arguments.show:
        show(rows, grades, arguments.show, arguments.seed)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
