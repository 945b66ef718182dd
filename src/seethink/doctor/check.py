"""What one check says, and the report that gathers them all. Nothing here knows what is checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """`FAIL`: the run would stop, or what it gives would be wrong. `WARN`: it would run, but look at this first."""

    PASS = "pass"
    INFO = "info"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table.

    Example: `Check("disk", "checkpoints", Status.FAIL, "needs 12 GB, 3 GB are free", "lower checkpoint.keep")`
    """

    section: str
    name: str
    status: Status
    found: str
    advice: str = ""
    """What to do; empty where there is nothing to do."""
    data: dict[str, Any] = field(default_factory=dict)
    """The whole finding, for the JSON report."""


@dataclass
class Report:
    """Everything that was found, in the order in which it was looked at."""

    checks: list[Check] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)
    """Rich renderables that are shown before the checks: parts, memory, bad rows, lengths."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the JSON report alone: every bad row, every count."""

    def add(self, section: str, name: str, status: Status, found: str, advice: str = "", **data: Any) -> None:
        self.checks.append(Check(section, name, status, found, advice, data))

    @property
    def counts(self) -> Counter[str]:
        return Counter(str(check.status) for check in self.checks)

    def failed(self, *, strict: bool = False) -> bool:
        """Whether something must be fixed first; with `strict` a warning is enough."""
        return any(c.status is Status.FAIL or (strict and c.status is Status.WARN) for c in self.checks)


def plural(count: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def gigabytes(size: float) -> str:
    """`1.5 GB`, `12 MB`; in powers of 1024, as cards are sold."""
    for unit, scale in (("TB", 40), ("GB", 30), ("MB", 20)):
        if size >= 1 << scale:
            return f"{size / (1 << scale):.{0 if size >= 100 << scale else 1}f} {unit}"
    return f"{size / 1024:.0f} kB"
