"""The report as a person reads it, and as JSON. Data, recipes and checkpoints must not drive the terminal."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seethink.core.version import __version__
from seethink.doctor.check import Check, Report, Status

STYLES = {
    Status.PASS: "green",
    Status.INFO: "dim",
    Status.SKIP: "dim",
    Status.WARN: "bold yellow",
    Status.FAIL: "bold red",
}
MAX_SHOWN = 600
"""Characters of one finding on the terminal; the JSON report has all of it."""


def plain(text: str, limit: int = MAX_SHOWN) -> str:
    """No control characters, no bidirectional overrides, no endless line."""
    shown = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def print_report(report: Report, console: Console, *, strict: bool = False) -> None:
    """Details first, then the checks, then the verdict: the end of the output is what one reads."""
    for table in report.tables:
        console.print(table)
    console.print(checks_table(report))
    console.print(verdict(report, strict=strict))


def checks_table(report: Report) -> Table:
    """One line a check, under the name of what it looks at."""
    # What comes from data and recipes goes in as Text: rich would read its [brackets] as markup.
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(max_width=26, overflow="fold")
    table.add_column(overflow="fold")
    for section in dict.fromkeys(check.section for check in report.checks):
        table.add_row("", Text(section, style="bold"), "")
        for check in report.checks:
            if check.section == section:
                mark = Text(check.status, style=STYLES[check.status])
                table.add_row(mark, Text(f"  {plain(check.name, 40)}"), _finding(check))
    return table


def _finding(check: Check) -> Text:
    text = Text(plain(check.found))
    if check.advice:
        text.append(f"\n→ {plain(check.advice)}", style=STYLES[check.status].removeprefix("bold "))
    return text


def verdict(report: Report, *, strict: bool = False) -> Text:
    counts = report.counts
    parts = [f"{counts[status]} {status}" for status in ("fail", "warn", "pass", "info", "skip") if counts[status]]
    if report.failed(strict=strict):
        strictly = " (--strict: warnings count)" if not counts["fail"] else ""
        return Text(f"{', '.join(parts)}: fix what failed before this run takes a GPU{strictly}", style="bold red")
    return Text(f"{', '.join(parts)}: ready to train", style="bold green")


def as_json(report: Report, *, strict: bool = False) -> str:
    content = {
        "seethink": __version__,
        "ok": not report.failed(strict=strict),
        "counts": dict(report.counts),
        "checks": [asdict(check) for check in report.checks],
        **report.facts,
    }
    return json.dumps(_finite(content), indent=2) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
