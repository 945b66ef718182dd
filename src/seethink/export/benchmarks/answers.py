"""Stored answers, item by item, as exports need them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seethink.core.errors import UserError
from seethink.eval.bench.results import Results
from seethink.eval.bench.runner import generations_path


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with its grade."""

    line: dict[str, Any]
    """The item's line of items.jsonl."""
    text: str
    """As the model wrote it; thinking that a server kept apart stands before it in `<think>`."""
    finish: str
    tokens: int
    verdict: str | None
    extracted: str | None


def answers(results: Results, name: str, run: int) -> Iterator[Answer]:
    """One benchmark's answers of one run, in the items' order. Raises UserError where they are not there."""
    lines = {line["id"]: line for line in results.items[name]}
    path = generations_path(results.folder, name, run)
    try:
        with path.open(encoding="utf-8") as file:
            for text in file:
                record = json.loads(text)
                if (line := lines.get(record["id"])) is not None:
                    yield _answer(line, record, run)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be used: {error!r}; finish the run by the command that began it") from None


def _answer(line: dict[str, Any], record: dict[str, Any], run: int) -> Answer:
    thought = record["reasoning"]
    text = f"<think>{thought}</think>\n{record['text']}" if thought else record["text"]
    return Answer(line, text, record["finish"], record["tokens"], line["verdicts"][run], line["answers"][run])
