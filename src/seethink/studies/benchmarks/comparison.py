"""Two models' stored results, item by item."""

from __future__ import annotations

from pathlib import Path

from seethink.core.console import console, say
from seethink.core.errors import UserError
from seethink.core.files import claim_file
from seethink.core.redact import visible
from seethink.eval.bench.results import Results, read_results
from seethink.eval.bench.statistics import Difference, difference
from seethink.eval.bench.table import difference_table
from seethink.eval.tasks.registry import BENCHMARKS
from seethink.report.benchmarks.page import is_bench_page, write_bench_page


def compare(a: Path, b: Path, out: Path | None = None) -> list[Difference]:
    """Print the paired differences of two folders' results, and write a page of both. Raises UserError."""
    if out is not None:
        claim_file(out, is_bench_page, "a page of `seethink eval --compare`")
    found = differences(read_results(a), read_results(b))
    labels = [visible(str(folder)) for folder in (a, b)]
    console.print(difference_table(found, *labels))
    if out is not None:
        say(f"page: {write_bench_page([a, b], out, found)}")
    return found


def differences(a: Results, b: Results) -> list[Difference]:
    """Of every benchmark that both have, on the items that both have answered."""
    names = [name for name in BENCHMARKS if name in a.items and name in b.items]
    if not names:
        raise UserError(f"--compare: {a.folder} and {b.folder} have no benchmark in common")
    return [_one(a, b, name) for name in names]


def _one(a: Results, b: Results, name: str) -> Difference:
    items, rights_a = a.rights(name)
    others, rights_b = b.rights(name)
    places = {item.id: place for place, item in enumerate(others)}
    shared = [place for place, item in enumerate(items) if item.id in places]
    if len(shared) < len(items) or len(shared) < len(others):
        sizes = f"{len(items):,} and {len(others):,}"
        say(f"{name}: {sizes} items, of which the {len(shared):,} that both have are compared", "yellow")
    kept = [items[place] for place in shared]
    found = difference(BENCHMARKS[name], kept, rights_a[shared], rights_b[[places[item.id] for item in kept]])
    if found.n < len(kept):
        say(f"{name}: {len(kept) - found.n:,} of them lack a score in some run and are left out", "yellow")
    return found
