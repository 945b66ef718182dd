"""`seethink bench`: what each benchmark is, where its data are, and a check before a run relies on them."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from seethink.core.types import Verdict
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.generations import prompt_digest
from seethink.eval.bench.grading import gold_problem
from seethink.eval.bench.load import find, load
from seethink.eval.bench.sources import Source
from seethink.eval.tasks.registry import BENCHMARKS


def list_lines(root: Path | None) -> list[str]:
    """Every benchmark with its size, licence, the paper's figure, and where its data are."""
    root = root or (Path(os.environ["SEETHINK_BENCH"]) if os.environ.get("SEETHINK_BENCH") else None)
    lines = []
    for benchmark in BENCHMARKS.values():
        found = find(benchmark, root) if root is not None else None
        paper = "paper unknown" if math.isnan(benchmark.paper) else f"paper {benchmark.paper:.1f}"
        items = f"{benchmark.total:,} items" if benchmark.expect else "items unknown"
        said = f"{benchmark.name:<16} {benchmark.title:<22} {items:<13}  {paper:<13}  licence {benchmark.licence}"
        lines.append(said)
        if found is not None:
            source, files, folder = found
            absent = source.lacks(files)
            lines.append(f"    found in {folder}: {source.shown}" + (f"; {absent} is missing" if absent else ""))
        else:
            lines += [f"    {'looked for' if root else 'data'}: {_described(source)}" for source in benchmark.sources]
    return lines


def _described(source: Source) -> str:
    return f"{source.shown}, {source.pinned}" if source.pinned else source.shown


@dataclass(frozen=True, slots=True)
class Checked:
    """What the data of one benchmark hold."""

    lines: tuple[str, ...]
    """For people."""
    failures: tuple[str, ...]
    """Golds that are not graded right against themselves, beyond the known bad rows."""


def check(benchmark: Benchmark, root: Path) -> Checked:
    """Load everything, count it, and grade every gold against itself. Raises BenchError, RowsError."""
    loaded = load(benchmark, root, show=True)
    items = loaded.items
    counts = Counter(item.category for item in items)
    images = sum(len(item.images) for item in items)
    lines = [
        f"{benchmark.title}: {len(items):,} items, {images:,} images, from {', '.join(loaded.files[:4])}",
        f"prompt: {benchmark.prompt}; licence: {benchmark.licence}",
        f"chance: {100 * benchmark.chance(items):.1f}%",
        f"published: {_published(benchmark)}",
        *(f"  {name}: {count:,}{_expected(benchmark, name)}" for name, count in counts.items()),
    ]
    lines += [f"known bad row {name}: {what}" for name, what in benchmark.bad_rows.items()]
    if benchmark.notes:
        lines.append(f"note: {benchmark.notes}")
    lines += [*_rotations(benchmark, items), *_odd(items)]
    failures = [f"{item.id}: gold {item.gold[:60]!r}: {why}" for item, why in _ungraded(benchmark, items)]
    known = [one for one in failures if one.partition(": gold")[0] in benchmark.bad_rows]
    return Checked((*lines, *(f"known: {one}" for one in known)), tuple(one for one in failures if one not in known))


def _published(benchmark: Benchmark) -> str:
    """The paper's figure and those of other models."""
    figures = {} if math.isnan(benchmark.paper) else {"the paper's model": benchmark.paper}
    figures |= benchmark.peers
    return ", ".join(f"{name} {value:.1f}" for name, value in figures.items()) or "unknown"


def _rotations(benchmark: Benchmark, items: tuple[Item, ...]) -> list[str]:
    """Of a benchmark whose number of rows is unknown: whether every question has a row for each of its options."""
    if benchmark.expect or benchmark.whole_groups != "question":
        return []
    rows: dict[str, list[Item]] = {}
    for item in items:
        rows.setdefault(item.groups["question"], []).append(item)
    short = [name for name, own in rows.items() if len(own) != len(own[0].choices)]
    lacking = f"; not as many rows as options: {len(short):,}, {', '.join(short[:5])}" if short else ""
    return [f"how many rows there should be is unknown; found {len(items):,} of {len(rows):,} questions{lacking}"]


def _odd(items: tuple[Item, ...]) -> list[str]:
    """What is rarely meant: items without an image among others that have one, and items that are there twice."""
    lines = []
    blind = [item.id for item in items if not item.images]
    if 0 < len(blind) < len(items):
        lines.append(f"without an image: {len(blind):,} items, {', '.join(blind[:5])}")
    seen: dict[tuple[object, ...], str] = {}
    for item in items:
        content = (prompt_digest(item), item.choices)
        if (first := seen.setdefault(content, item.id)) != item.id:
            lines.append(f"the same question and images: {first} and {item.id}")
    return lines


def _expected(benchmark: Benchmark, name: str) -> str:
    return f" of {benchmark.expect[name]:,} expected" if name in benchmark.expect else ""


def _ungraded(benchmark: Benchmark, items: tuple[Item, ...]) -> list[tuple[Item, str]]:
    """Items whose own gold, in a box, is not right. Puzzles with any valid solution have no gold to try."""
    tried = [item for item in items if item.gold.strip() and not item.meta.get("special")]
    grades = benchmark.grade([(item, f"The answer is \\boxed{{{item.gold}}}.") for item in tried])
    empty = [(item, "no answer") for item in items if not item.gold.strip() and not item.meta.get("special")]
    return empty + [
        (item, gold_problem(item) or grade.reason)
        for item, grade in zip(tried, grades, strict=True)
        if grade.verdict is not Verdict.CORRECT
    ]
