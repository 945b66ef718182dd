"""What is kept and shown of a mode: values per item, rows of modes.json, the table. Letter: N items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from seethink.core.files import write_json
from seethink.core.statistics import mean_se, paired_bootstrap
from seethink.models.load import LoadedModel
from seethink.studies.modes.inference_modes import ModesConfig, Variant

Values = dict[str, list[float | None]]
"""Quantity -> [N] means over each item's completions; None where no completion could be graded."""


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One row of modes.json: a mode on a domain (`"all"`: on all items)."""

    mode: str
    budget: int | None
    forced: bool
    domain: str
    accuracy: float
    se: float
    n: int
    """Items; each counts once, however many its completions."""
    tokens_mean: float
    tokens_se: float
    truncated_share: float
    no_answer_share: float
    critical_mean: float
    """Critical words per response; 0 under NoWait unless a spelling was missed."""
    effect: float | None
    """Accuracy less that of slow thinking on the same items; `low` and `high` are its 95% bootstrap interval."""
    low: float | None
    high: float | None


def mode_rows(variant: Variant, values: dict[Variant, Values], domains: list[str], seed: int) -> list[ModeRow]:
    """One row over all items, then one row per domain."""
    return [_row(variant, values, domains, domain, seed) for domain in ("all", *dict.fromkeys(domains))]


def _row(variant: Variant, values: dict[Variant, Values], domains: list[str], domain: str, seed: int) -> ModeRow:
    places = [i for i, own in enumerate(domains) if domain in ("all", own)]

    def of(quantity: str, which: Variant = variant) -> np.ndarray:
        return np.array([values[which][quantity][i] for i in places], dtype=float)

    accuracy, slow = of("accuracy"), Variant("slow")
    graded = accuracy[np.isfinite(accuracy)]
    effect = low = high = None
    if slow in values and variant != slow:
        theirs = of("accuracy", slow)
        both = np.isfinite(accuracy) & np.isfinite(theirs)
        found = paired_bootstrap(accuracy[both], theirs[both], seed=seed)
        effect, low, high = found.value, found.low, found.high
    accuracy_mean, accuracy_se = mean_se(graded)
    tokens_mean, tokens_se = mean_se(of("tokens"))
    return ModeRow(
        mode=variant.mode,
        budget=variant.budget,
        forced=variant.forced,
        domain=domain,
        accuracy=accuracy_mean,
        se=accuracy_se,
        n=len(graded),
        tokens_mean=tokens_mean,
        tokens_se=tokens_se,
        truncated_share=float(of("truncated").mean()),
        no_answer_share=float(of("no_answer").mean()),
        critical_mean=float(of("critical").mean()),
        effect=effect,
        low=low,
        high=high,
    )


def write_modes(path: Path, loaded: LoadedModel, data: str, config: ModesConfig, rows: Sequence[ModeRow]) -> None:
    """Write modes.json: what was compared, and the rows; NaN becomes null."""
    table = {"model": loaded.source, "data": data, **asdict(config), "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, table)


def modes_table(rows: Sequence[ModeRow]) -> Table:
    """For the terminal: accuracy of every mode, over all items and by domain."""
    domains = list(dict.fromkeys(row.domain for row in rows))
    table = Table("mode", title="Accuracy ± standard error, and difference to slow thinking, in %")
    for heading in (*domains, "against slow", "tokens", "truncated", "no answer", "critical words"):
        table.add_column(escape(heading), justify="right")
    by_variant: dict[Variant, list[ModeRow]] = {}
    for row in rows:
        by_variant.setdefault(Variant(row.mode, row.budget, row.forced), []).append(row)
    for variant, own in by_variant.items():
        whole = own[0]
        scores = [f"{100 * row.accuracy:.1f} ± {100 * row.se:.1f}" for row in own]
        shares = (f"{100 * whole.truncated_share:.1f}%", f"{100 * whole.no_answer_share:.1f}%")
        tokens = f"{whole.tokens_mean:.1f} ± {whole.tokens_se:.1f}"
        table.add_row(variant.label, *scores, _effect(whole), tokens, *shares, f"{whole.critical_mean:.2f}")
    return table


def _effect(row: ModeRow) -> str:
    if row.effect is None or row.low is None or row.high is None:
        return ""
    return f"{100 * row.effect:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
