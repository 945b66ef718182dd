"""The items that a page shows: question, images, gold, and what each model answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seethink.core.files import inside
from seethink.eval.bench.prompts import MARK
from seethink.eval.bench.results import Results
from seethink.eval.bench.runner import generations_path
from seethink.report.images import Album

MOST = 48
"""Items of a benchmark that a page shows."""
_CHARS = 6_000
"""Of one answer: its beginning and its end are kept."""
_PAGE_BYTES = 24_000_000
"""Of images, on one page."""


def shown_items(
    results: Sequence[Results], wrong: Mapping[str, Sequence[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """(some of the `wrong_lines` of each benchmark as items, the data URIs of their images)."""
    album = Album()
    items: list[dict[str, Any]] = []
    for name, lines in wrong.items():
        chosen = _chosen(lines)
        answers = [_answers(one, name, chosen) for one in results]
        for line in chosen:
            images = [album.add(results[0].folder, path) for path in line["images"]]
            while sum(map(len, album.uris)) > _PAGE_BYTES:
                album.forget(len(album.uris) - 1)
                images = ["left out: the page is full"]
            items.append(_item(results, name, line, images, [own.get(line["id"], "") for own in answers]))
    return items, album.uris


def wrong_lines(results: Sequence[Results], name: str) -> list[dict[str, Any]]:
    """Lines of the first folder whose items all models answered, some of them wrongly in some run."""
    others = [{line["id"]: line for line in one.items.get(name, [])} for one in results[1:]]
    shared = [line for line in results[0].items.get(name, []) if all(line["id"] in one for one in others)]
    return [line for line in shared if any((one.get("accuracy") or 0) < 1 for one in _lines(line, others))]


def _chosen(wrong: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that the page shows: with images kept, and spread over the benchmark."""
    pictured = [line for line in wrong if line["images"]] or wrong
    count = min(MOST, len(pictured))
    return [pictured[n * len(pictured) // count] for n in range(count)]


def _lines(line: dict[str, Any], others: Sequence[dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [line, *(one[line["id"]] for one in others)]


def _answers(one: Results, name: str, chosen: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Item -> the text of its first run."""
    wanted = {line["id"] for line in chosen}
    path = generations_path(one.folder, name, 0)
    found: dict[str, str] = {}
    if inside(one.folder, str(path.relative_to(one.folder))) is None or not Path(path).is_file():
        return found
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record.get("id") in wanted:
                thought = record.get("reasoning") or ""
                found[record["id"]] = _cut(f"{thought}\n\n{record['text']}" if thought else str(record["text"]))
    return found


def _cut(text: str) -> str:
    if len(text) <= _CHARS:
        return text
    half = _CHARS // 2
    return f"{text[:half]}\n[… {len(text) - _CHARS:,} characters …]\n{text[-half:]}"


def _item(
    results: Sequence[Results], name: str, line: dict[str, Any], images: list[int | str], texts: list[str]
) -> dict[str, Any]:
    own = [line, *({x["id"]: x for x in one.items[name]}[line["id"]] for one in results[1:])]
    models = [
        {
            "accuracy": one.get("accuracy"),
            "verdict": (one["verdicts"] or [None])[0] or "missing",
            "answer": (one["answers"] or [None])[0] or "none",
            "right": f"{sum(v == 'correct' for v in one['verdicts'])} of {len(one['verdicts'])}",
            "text": text,
        }
        for one, text in zip(own, texts, strict=True)
    ]
    rights = [one["verdict"] == "correct" for one in models]
    kind = "differ" if len(set(rights)) > 1 else "right" if rights[0] else "wrong"
    return {
        "bench": name,
        "id": line["id"],
        "category": line["category"],
        "question": line["question"].replace(MARK, "[image] "),
        "gold": line["gold"],
        "images": images,
        "models": models,
        "kind": kind,
        "no_answer": any(one["verdict"] == "no_answer" for one in models),
    }
