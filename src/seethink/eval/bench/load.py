"""A benchmark's items from the files of one of its sources, counted against what is expected."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from seethink.core.console import progress_bar
from seethink.eval.bench.benchmark import BenchError, Benchmark, Item
from seethink.eval.bench.rows import Row, read_rows
from seethink.eval.bench.sources import Source


@dataclass(frozen=True, slots=True)
class Loaded:
    """The items of one benchmark."""

    items: tuple[Item, ...]
    places: tuple[int, ...]
    """[N] The place of each item in the whole benchmark: its random numbers do not depend on which others are asked."""
    source: Source
    files: tuple[str, ...]
    """Relative to the data's folder."""
    total: int
    """Items of the whole benchmark."""

    @property
    def is_whole(self) -> bool:
        return len(self.items) == self.total


def find(benchmark: Benchmark, root: Path) -> tuple[Source, list[tuple[Path, str]], Path] | None:
    """(source, files, folder) of the first layout under `root`, or under its folder of the benchmark's name."""
    for folder in (root / benchmark.name, root):
        if folder.exists():
            for source in benchmark.sources:
                if files := source.find(folder):
                    return source, files, folder
    return None


def load(
    benchmark: Benchmark,
    root: Path,
    *,
    images: bool = True,
    limit: int | None = None,
    seed: int = 0,
    show: bool = False,
) -> Loaded:
    """The items of a benchmark, or with `limit` a sample of them (`sampled`).

    With `images=False` no image is opened: enough for grading. `show` has a progress bar on the terminal. Raises
    BenchError where there are no data, or where their number is not the benchmark's.
    """
    found = find(benchmark, root)
    if found is None:
        wanted = "; or ".join(source.shown for source in benchmark.sources)
        here = f"{root} is none of its files" if root.is_file() else f"no data under {root}"
        unpack = "; unpack the archive" if root.suffix in (".zip", ".gz", ".tar", ".tgz", ".xz", ".7z") else ""
        raise BenchError(f"{benchmark.name}: {here}{unpack}; expected {wanted}; give their folder as --data")
    source, files, folder = found
    rows = [
        (number, item)
        for number, row in enumerate(read_rows(source, files, folder, images=False))
        if (item := source.read(row)) is not None
    ]
    items = [item for _, item in rows]
    _check(benchmark, items, ", ".join(sorted({path.name for path, _ in files})[:4]))
    places = range(len(items)) if limit is None else sampled(benchmark, items, limit, seed)
    chosen = [items[place] for place in places]
    if images:
        wanted_rows = {rows[place][0] for place in places}
        chosen = _with_images(benchmark, source, read_rows(source, files, folder), wanted_rows, show)
    names = tuple(sorted({str(path.relative_to(folder)) if folder.is_dir() else path.name for path, _ in files}))
    return Loaded(tuple(chosen), tuple(places), source, names, len(items))


def _with_images(benchmark: Benchmark, source: Source, rows: Iterator[Row], wanted: set[int], show: bool) -> list[Item]:
    """The items of these rows; every image is decoded once, to check it."""
    items = []
    bar = progress_bar(f"read {benchmark.name}", len(wanted)) if show else nullcontext(lambda count, status: None)
    with bar as advance:
        for number, row in enumerate(rows):
            if number in wanted and (item := source.read(row)) is not None:
                items.append(item)
                advance(1, "")
    return items


def _check(benchmark: Benchmark, items: Sequence[Item], where: str) -> None:
    """Raises BenchError where items are missing, too many, or of the same name."""
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise BenchError(f"{benchmark.name}: {where} holds {twice[0]!r} twice; keep one file of each layout")
    expect = benchmark.expect
    if not items:
        raise BenchError(f"{benchmark.name}: no row of {where} belongs to it: another split or variant?")
    if expect and len(items) != benchmark.total:
        raise BenchError(
            f"{benchmark.name}: expected {benchmark.total:,} items, found {len(items):,} in {where}: another split or "
            f"variant, or a part is missing ({counts_shown(benchmark, items)})"
        )
    counts = Counter(item.category for item in items)
    if "" not in expect and expect and dict(counts) != dict(expect):
        raise BenchError(f"{benchmark.name}: {where}: {counts_shown(benchmark, items)}: another split or variant?")


def counts_shown(benchmark: Benchmark, items: Sequence[Item]) -> str:
    """The categories whose counts differ from what is expected, for messages."""
    counts = Counter(item.category for item in items)
    names = [n for n in {**benchmark.expect, **counts} if n and counts[n] != benchmark.expect.get(n, 0)]
    if "" in benchmark.expect or not names:
        return f"expected {benchmark.total:,}, found {len(items):,}"
    shown = [f"{name[:40]}: expected {benchmark.expect.get(name, 0)}, found {counts[name]}" for name in names[:4]]
    return "; ".join(shown) + ("; ..." if len(names) > 4 else "")


def sampled(benchmark: Benchmark, items: Sequence[Item], limit: int, seed: int) -> list[int]:
    """Places of about `limit` items, from all categories in their proportions, drawn from the seed.

    Items that belong together (`whole_groups`) are drawn together, so that composite scores stay defined.
    """
    units: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        key = item.groups[benchmark.whole_groups] if benchmark.whole_groups else str(place)
        units.setdefault(key, []).append(place)
    strata: dict[str, list[list[int]]] = {}
    for unit in units.values():
        strata.setdefault(items[unit[-1]].category, []).append(unit)
    rng = random.Random(zlib.crc32(f"{benchmark.name}/{seed}".encode()))
    ranked: list[tuple[float, str, list[int]]] = []
    for name, members in strata.items():
        rng.shuffle(members)
        ranked += [((number + 0.5) / len(members), name, unit) for number, unit in enumerate(members)]
    chosen: list[int] = []
    for _, _, unit in sorted(ranked, key=lambda one: one[:2]):
        if len(chosen) >= limit:
            break
        chosen += unit
    return sorted(chosen)
