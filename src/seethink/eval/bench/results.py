"""The results of a folder of benchmarks: `eval.json`, `items.jsonl`, and the images of items for the page.

Letters: N items, K runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.files import finite_values, read_file, write_bytes, write_json, write_json_lines
from seethink.data.images import ImageError
from seethink.endpoint.chat import image_media_type
from seethink.eval.bench.benchmark import Item
from seethink.eval.bench.grades import Graded
from seethink.eval.bench.runner import Ran
from seethink.eval.bench.statistics import BenchScore
from seethink.runs.reading import RunFileError, read_object, require_lines

EVAL, ITEMS, IMAGES = "eval.json", "items.jsonl", "images"
PICTURED = 60
"""Items of a benchmark whose images are kept for the page, the ones answered wrongly first."""
_MOST_BYTES = 4_000_000
"""Larger images are not kept."""


def score_record(score: BenchScore, ran: Ran) -> dict[str, Any]:
    """One benchmark of eval.json: its numbers, and what they were measured on and by."""
    benchmark, loaded = ran.benchmark, ran.loaded
    about = {
        "version": benchmark.version,
        "source": {"kind": loaded.source.kind, "name": loaded.source.name, "files": list(loaded.files)[:40]},
        "prompt": benchmark.prompt,
        "licence": benchmark.licence,
        "total": loaded.total,
        "bad_rows": dict(benchmark.bad_rows),
        "peers": dict(benchmark.peers),
        "notes": benchmark.notes,
    }
    return {**asdict(score), "about": about}


def read_score(record: Mapping[str, Any]) -> BenchScore:
    """The numbers of one benchmark of eval.json; null is NaN."""
    values = {name: record[name] for name in BenchScore.__dataclass_fields__}
    for name, value in values.items():
        if value is None:
            values[name] = math.nan
    values["run_scores"] = tuple(math.nan if one is None else one for one in record["run_scores"])
    values["figures"] = {
        name: tuple(math.nan if one is None else one for one in many) for name, many in record["figures"].items()
    }
    return BenchScore(**values)


def item_records(ran: Ran, out: Path) -> list[dict[str, Any]]:
    """Lines of items.jsonl; some items' images are copied to `out`."""
    pictured = set(_pictured(ran.graded))
    return [
        _item_record(ran.benchmark.name, item, own, _keep_images(item, out) if n in pictured else [])
        for n, (item, own) in enumerate(zip(ran.loaded.items, ran.graded, strict=True))
    ]


def _item_record(name: str, item: Item, own: Sequence[Graded | None], images: list[str]) -> dict[str, Any]:
    rights = [math.nan if grade is None else grade.right for grade in own]
    known = [right for right in rights if not math.isnan(right)]
    return {
        "bench": name,
        "id": item.id,
        "category": item.category,
        "gold": item.gold,
        "accuracy": math.fsum(known) / len(known) if known else math.nan,
        "rights": rights,
        "verdicts": [None if grade is None else grade.verdict for grade in own],
        "answers": [None if grade is None else grade.extracted for grade in own],
        "tokens": [None if grade is None else grade.tokens for grade in own],
        "keys": [None if grade is None else grade.key for grade in own],
        "groups": dict(item.groups),
        "question": item.question,
        "images": images,
    }


def _pictured(graded: Sequence[Sequence[Graded | None]]) -> list[int]:
    """Places of items for the page, spread over the benchmark."""
    wrong = [n for n, own in enumerate(graded) if any(g is not None and g.right == 0 for g in own)]
    other = [n for n in range(len(graded)) if n not in set(wrong)]
    spread = [wrong[int(i)] for i in np.linspace(0, len(wrong) - 1, min(PICTURED, len(wrong)))] if wrong else []
    return spread + other[: max(0, PICTURED - len(spread)) // 4]


def _keep_images(item: Item, out: Path) -> list[str]:
    """Paths, relative to `out`, of the copies of an item's images; without the ones that are too large or gone."""
    kept = []
    for image in item.images:
        try:
            data = image.encoded()
        except ImageError:
            continue
        kind = image_media_type(data)
        if kind is None or len(data) > _MOST_BYTES:
            continue
        name = f"{IMAGES}/{image.sha256[:24]}.{kind.partition('/')[2]}"
        path = out / name
        if not path.exists() or path.stat().st_size != len(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        kept.append(name)
    return kept


def write_results(
    out: Path, about: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], items: Iterable[Mapping[str, Any]]
) -> None:
    """Write eval.json and items.jsonl; benchmarks that the folder has and `scores` has not are kept as they are."""
    before = read_object(out / EVAL)
    kept = {name: record for name, record in before.get("benchmarks", {}).items() if name not in scores}
    others = [record for record in _lines(out / ITEMS) if record.get("bench") in kept]
    write_json_lines(out / ITEMS, [*others, *map(finite_values, items)])
    write_json(out / EVAL, {**about, "benchmarks": {**kept, **scores}})


def _lines(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in require_lines(path)] if path.exists() else []


@dataclass(frozen=True, slots=True)
class Results:
    """What a folder holds."""

    folder: Path
    label: str
    about: dict[str, Any]
    scores: dict[str, BenchScore]
    records: dict[str, dict[str, Any]]
    """The benchmarks of eval.json as they are stored."""
    items: dict[str, list[dict[str, Any]]]
    """Lines of items.jsonl by benchmark."""

    def rights(self, name: str) -> tuple[list[Item], np.ndarray]:
        """(items with what scores need of them, [N, K] 1, 0 or NaN)."""
        lines = self.items[name]
        items = [Item(line["id"], "", line["gold"], category=line["category"], groups=line["groups"]) for line in lines]
        values = [[math.nan if one is None else float(one) for one in line["rights"]] for line in lines]
        return items, np.array(values, dtype=float)


def read_results(folder: Path, option: str = "--compare") -> Results:
    """Raises UserError where the folder has no results of `seethink eval --bench`."""
    try:
        about = read_object(folder / EVAL)
        if "benchmarks" not in about:
            raise UserError(f"{option}: {folder} has no results of `seethink eval --bench`; give its --out folder")
        items: dict[str, list[dict[str, Any]]] = {}
        for line in _lines(folder / ITEMS):
            items.setdefault(line["bench"], []).append(line)
        records = about["benchmarks"]
        scores = {name: read_score(record) for name, record in records.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{option}: {folder / EVAL} is damaged or of another version: {error!r}; score it anew with "
                        "--regrade") from None  # fmt: skip
    except RunFileError as error:
        raise UserError(f"{option}: {error}") from None
    return Results(folder, str(about.get("label", folder.name)), about, scores, records, items)


def settings_of(path: Path) -> dict[str, Any] | None:
    """The stored settings of a folder; None where there are none. Raises UserError where they are damaged."""
    if not path.exists():
        return None
    try:
        table = json.loads(read_file(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be used: {error}; choose another --out") from None
    if not isinstance(table, dict):
        raise UserError(f"{path} is not of `seethink eval --bench`; choose another --out")
    return table
