"""`seethink world floors`: measures what can be scored on the second world without seeing, and shows it as a table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from seethink.core.console import console, progress_bar
from seethink.core.files import claim_file, finite_values, json_with, write_json
from seethink.world.v2.floors import Floor, floors
from seethink.world.v2.source import PREFIX, parse


def measure_floors(domains: str, size: int, seed: int, out: Path | None) -> list[Floor]:
    """The floors of each domain, printed, and written to `out` as JSON. Raises UserError for an unknown domain."""
    names = parse(f"{PREFIX}{domains}").domains
    if out is not None:
        claim_file(out, json_with("floors", "size"), "a result of `seethink world floors`")
    found: list[Floor] = []
    with progress_bar("floors", len(names)) as advance:
        for name in names:
            found += floors(name, size, seed)
            advance(1, name)
    console.print(floor_table(found))
    if out is not None:
        content = {"size": size, "seed": seed, "floors": [asdict(floor) for floor in found]}
        write_json(out, finite_values(content))
    return found


def floor_table(found: list[Floor]) -> Table:
    """Accuracies in per cent, each with its standard error."""
    table = Table(title="Accuracy without sight, %")
    for heading in ("domain", "form", "n", "chance", "most frequent", "words alone", "nearest picture"):
        table.add_column(heading, justify="left" if heading in ("domain", "form") else "right")
    for floor in found:
        chance = "" if floor.chance != floor.chance else f"{100 * floor.chance:.0f}"
        scores = [f"{100 * mean:.1f} ± {100 * error:.1f}" for mean, error in (floor.prior, floor.words, floor.nearest)]
        table.add_row(floor.domain, floor.form, str(floor.n), chance, *scores)
    return table
