"""Inference modes and thinking budgets compared on one checkpoint (paper 6.2 and 6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seethink.report import charts
from seethink.report.charts import Bar, Figure
from seethink.report.load import LARGEST, number
from seethink.report.plots import Dot, Dots, scatter
from seethink.report.scores import percent

NAMES = {"slow": "slow thinking", "nothink": "NoThink", "nowait": "NoWait"}
TONES = {"slow": "a", "nothink": "b", "nowait": "c"}
WHOLE = "all"
"""The domain that pools all items."""


@dataclass(frozen=True, slots=True)
class Modes:
    """The section: figures over all items, and one row per mode and domain."""

    figures: list[Figure]
    rows: list[dict[str, Any]]
    by_domain: list[dict[str, Any]]


def modes(table: dict[str, Any]) -> Modes | None:
    """The section for the content of modes.json; None where it holds no accuracy."""
    listed = table.get("rows")
    rows = [_row(row) for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    rows = [row for row in rows if row["accuracy"] is not None]
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    if not rows:
        return None
    whole = [row for row in rows if row["domain"] == (WHOLE if WHOLE in domains else domains[0])]
    drawn = (_bars(whole), _budgets(whole))
    others = [row for row in rows if row not in whole]
    return Modes([figure for figure in drawn if figure], whole, others)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    mode, budget = str(row.get("mode")), number(row.get("budget"))
    end = "closed" if row.get("forced") is True else "cut"
    keys = ("accuracy", "se", "n", "tokens_mean", "tokens_se", "truncated_share", "effect", "low", "high")
    label = NAMES.get(mode, mode) if budget is None else f"budget {budget:,.0f}, {end}"
    return {"mode": mode, "budget": budget, "end": end, "label": label, "domain": str(row.get("domain"))} | {
        key: number(row.get(key)) for key in keys
    }


def _bars(rows: list[dict[str, Any]]) -> Figure | None:
    chosen = [row for row in rows if row["budget"] is None]
    if not chosen:
        return None
    groups = [
        (row["label"], [Bar(row["accuracy"], row["se"] or 0.0, TONES.get(row["mode"], "f"), _said(row))])
        for row in chosen
    ]
    tokens = ", ".join(f"{row['label']} {row['tokens_mean']:,.0f}" for row in chosen if row["tokens_mean"] is not None)
    note = f"Accuracy in %; whiskers are ± 1 standard error{_size(chosen)}." + (
        f" Mean tokens: {tokens}." if tokens else ""
    )
    return Figure("Accuracy by mode", note, charts.bar_chart(groups, "Accuracy by inference mode"))


def _drawn(tokens: float | None) -> bool:
    """Whether a number of tokens has a place on an axis that doubles."""
    return tokens is not None and 1e-3 <= tokens <= LARGEST


def _budgets(rows: list[dict[str, Any]]) -> Figure | None:
    """Accuracy against the budget; slow thinking, which has no budget, stands at its mean tokens."""
    groups = []
    for end, label, tone in (("closed", "closed at the budget", "a"), ("cut", "cut off there", "b")):
        dots = [_dot(row, row["budget"]) for row in rows if _drawn(row["budget"]) and row["end"] == end]
        groups.append(Dots(label, tone, dots, joined=True))
    free = [row for row in rows if row["mode"] == "slow" and row["budget"] is None and _drawn(row["tokens_mean"])]
    groups.append(Dots("no budget, at its mean tokens", "d", [_dot(row, row["tokens_mean"]) for row in free]))
    if not any(group.dots for group in groups[:2]):
        return None
    groups = [group for group in groups if group.dots]
    svg = scatter(groups, "Accuracy by thinking budget", "thinking budget, tokens", "accuracy", doubling=True)
    note = f"Bars are ± 1 standard error{_size(rows)}. The budget's axis doubles from mark to mark."
    return Figure("Thinking budgets", note, svg, [(group.label, group.tone) for group in groups])


def _dot(row: dict[str, Any], x: float) -> Dot:
    error = row["se"] or 0.0
    return Dot(x, row["accuracy"], _said(row), y_ends=(row["accuracy"] - error, row["accuracy"] + error))


def _said(row: dict[str, Any]) -> str:
    return f"{row['label']}: {percent(row['accuracy'], row['se'])} %"


def _size(rows: list[dict[str, Any]]) -> str:
    sizes = {row["n"] for row in rows if row["n"]}
    return f", n = {sizes.pop():,.0f} items" if len(sizes) == 1 else ""
