"""Two measurements of entropy side by side, and as tables for the terminal.

Letter: K prompts or steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from seethink.core.errors import UserError
from seethink.core.statistics import standard_error
from seethink.entropy.meter import QUANTILES, Estimate
from seethink.studies.entropy.measurement import EntropyReport
from seethink.studies.entropy.result_files import Stored

NORMAL_95 = 1.959964
"""Standard errors on each side of a 95% interval."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference `b - a` of one quantity, with its 95% interval."""

    name: str
    a: float
    b: float
    low: float
    high: float
    n: tuple[int, int]
    """Tokens of a and of b; for accuracy, responses."""
    paired: bool
    """Whether both are of the same prompts or steps, so that the variation which they share does not count as noise."""

    @property
    def value(self) -> float:
        return self.b - self.a


def compare(a: Stored, b: Stored) -> list[Difference]:
    """The difference in every group that both have.

    Steps that only one run has are left out; prompts are paired where both have the same. Raises UserError where the
    two cannot be compared.
    """
    if a.unit != b.unit:
        raise UserError(f"{a.name} has values per {a.unit} and {b.name} per {b.unit}: compare two reports, or two runs")
    if a.words != b.words:
        raise UserError(
            f"the critical words differ: {a.name} has {a.words}, {b.name} has {b.words}; measure one of them again"
        )
    common = [name for name in a.ids if name in set(b.ids)]
    if a.unit == "step" and not common:
        raise UserError(f"{a.name} and {b.name} have no step in common")
    paired = a.unit == "step" or (sorted(a.ids) == sorted(b.ids) and len(set(a.ids)) == len(a.ids))
    places = [[s.ids.index(name) for name in common] if paired else list(range(len(s.ids))) for s in (a, b)]
    rows = [(name, a.means[name], b.means[name]) for name in a.means if name in b.means]
    if math.isclose(a.threshold, b.threshold):
        rows += [(f"{name}: tail", a.tails[name], b.tails[name]) for name in ("all", "critical") if name in b.tails]
    return [_difference(name, _at(x, places[0]), _at(y, places[1]), paired=paired) for name, x, y in rows]


def _at(estimate: Estimate, places: list[int]) -> Estimate:
    return Estimate(estimate.sums[places], estimate.counts[places])


def _difference(name: str, a: Estimate, b: Estimate, *, paired: bool) -> Difference:
    if paired:
        clusters = int(((a.counts > 0) | (b.counts > 0)).sum())
        se = standard_error(b.influence - a.influence, clusters) if a.n and b.n else math.nan
    else:
        se = math.hypot(a.se, b.se)
    value, reach = b.mean - a.mean, NORMAL_95 * se
    return Difference(name, a.mean, b.mean, value - reach, value + reach, (a.n, b.n), paired)


def report_table(report: EntropyReport) -> Table:
    """Every group that has tokens: count, mean, standard error, quantiles, share above the threshold."""
    title = f"Entropy (nats) of {escape(report.model)}, {report.how}: {len(report.prompts)} prompts, "
    table = _table(f"{title}{report.completions} responses", ("n", "mean", "se", *QUANTILES, _tail(report.threshold)))
    for name, group in report.groups.items():
        if group.sketch.count:
            quantiles = (f"{group.sketch.quantile(share):.3f}" for share in QUANTILES.values())
            table.add_row(name, *_shown(group.estimate), *quantiles, f"{100 * group.tail.mean:.2f}%")
    for label, estimate in (("critical mass", report.critical_mass), ("accuracy", report.accuracy)):
        if estimate.n:
            table.add_row(label, *_shown(estimate))
    return table


def stored_table(stored: Stored) -> Table:
    """Means and standard errors over the steps of a run."""
    title = f"Entropy (nats) of {escape(stored.name)}, {len(stored.ids)} {stored.unit}s"
    table = _table(title, ("n", "mean", "se", _tail(stored.threshold)))
    for name, estimate in stored.means.items():
        if estimate.n:
            table.add_row(name, *_shown(estimate), f"{100 * stored.tails[name].mean:.2f}%")
    return table


def difference_table(a: Stored, b: Stored, rows: list[Difference]) -> Table:
    """Both means, and their difference with its 95% interval."""
    how = f"paired by {a.unit}" if rows and rows[0].paired else "not paired"
    title = f"Entropy (nats): {escape(b.name)} less {escape(a.name)}, {how}, 95% intervals"
    table = _table(title, ("n", "first", "second", "difference", "low", "high"))
    for row in rows:
        if min(row.n):
            counts = f"{row.n[0]:,} / {row.n[1]:,}"
            differences = (f"{value:+.4f}" for value in (row.value, row.low, row.high))
            table.add_row(row.name, counts, f"{row.a:.4f}", f"{row.b:.4f}", *differences)
    return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table("tokens", title=title)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _tail(threshold: float) -> str:
    return f"> {threshold:.3g}"


def _shown(estimate: Estimate) -> tuple[str, str, str]:
    return f"{estimate.n:,}", f"{estimate.mean:.4f}", f"{estimate.se:.4f}"
