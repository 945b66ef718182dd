"""The watchdogs' alarms during a stage, on the step axis under the curves that they watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from seethink.report import charts
from seethink.report.charts import Mark, Panel, Series
from seethink.report.load import Stage, number

TONES = {"warn": "b", "checkpoint": "a", "stop": "ink"}
WATCHED = {
    "rl": (
        ("reward/mean", "reward", "a"),
        ("entropy/mean", "entropy, nats", "c"),
        ("optim/grad_norm", "gradient norm", "b"),
    ),
    "sft": (("loss/total", "loss", "a"), ("optim/grad_norm", "gradient norm", "b")),
}
ROWS = 12
"""Alarms in the table; the timeline has all of them."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """The section: a sentence, the timeline, its legend, and the first alarms as a table."""

    sentence: str
    svg: Markup
    legend: list[tuple[str, str]]
    rows: list[dict[str, Any]]
    more: int


def alarms(stage: Stage) -> Alarms | None:
    """The section of a stage; None where no watchdog ran."""
    if stage.alarms is None:
        return None
    known = [row for row in stage.alarms if number(row.get("step")) is not None]
    if not known:
        return Alarms("No watchdog raised an alarm.", Markup(""), [], [], 0)
    lanes = {name: [_mark(row) for row in known if _name(row) == name] for name in dict.fromkeys(map(_name, known))}
    panels = [
        Panel([Series(label, stage.points(key), tone)], label, log=key == "optim/grad_norm")
        for key, label, tone in WATCHED.get(stage.kind, ())
    ]
    svg = charts.panel_chart(panels, f"Alarms of the watchdogs by step, {stage.name}", list(lanes.items()))
    actions = dict.fromkeys(str(row.get("action")) for row in known)
    legend = [(action, TONES.get(action, "f")) for action in actions]
    return Alarms(_sentence(known, lanes), svg, legend, [_row(row) for row in known[:ROWS]], max(0, len(known) - ROWS))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: number(row.get(key)) for key in ("step", "value", "threshold")}
    return numbers | {"name": _name(row), "action": str(row.get("action")), "message": str(row.get("message") or "")}


def _mark(row: dict[str, Any]) -> Mark:
    step = number(row.get("step")) or 0.0
    return Mark(step, TONES.get(str(row.get("action")), "f"), f"step {step:,.0f}: {row.get('message') or _name(row)}")


def _name(row: dict[str, Any]) -> str:
    return str(row.get("name")).replace("_", " ")


def _sentence(known: list[dict[str, Any]], lanes: dict[str, list[Mark]]) -> str:
    counts = ", ".join(f"{name} {len(marks)}" for name, marks in lanes.items())
    sentence = f"{len(known)} alarm{'s' if len(known) > 1 else ''} ({counts}), the first at step {known[0]['step']:,}."
    stopped = next((row for row in known if row.get("action") == "stop"), None)
    return sentence + (
        f" {_name(stopped).capitalize()} stopped the run at step {stopped['step']:,}." if stopped else ""
    )
