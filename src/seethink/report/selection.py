"""How well each criterion predicts a checkpoint's accuracy (paper 5.1): one dot per checkpoint, and correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seethink.report.charts import Figure
from seethink.report.load import number
from seethink.report.plots import Dot, Dots, Effect, forest, scatter

TARGETS = (("in_domain", "in domain", "a"), ("out_of_domain", "out of domain", "b"))
WORDS = {
    "accuracy": "accuracy on other items",
    "out_of_domain_accuracy": "out-of-domain accuracy on other items",
    "entropy_mean": "mean entropy",
    "entropy_following": "entropy after critical words",
    "uncertain_reward": "reward of uncertain answers",
    "last": "the last step",
}
FIRST = ("critical_entropy", "reward", "accuracy", "entropy_mean")
"""The criteria that get a scatter plot, in this order; the forest plot has every criterion."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The section: figures, and what each criterion would choose."""

    sentence: str
    figures: list[Figure]
    choices: list[dict[str, Any]]


def selection(table: dict[str, Any]) -> Selection | None:
    """The section for the content of select.json; None where it ranks no checkpoint."""
    criteria = _dict(table.get("criteria"))
    if not criteria:
        return None
    by, chosen = str(table.get("by")), str(table.get("chosen"))
    order = dict.fromkeys([by, *FIRST])
    drawn = [_dots(table, name) for name in order if name in criteria]
    figures = [figure for figure in (*drawn, _correlations(table)) if figure]
    choices = [_choice(table, name) for name in criteria]
    others = {choice["chosen"] for choice in choices if choice["chosen"] is not None} - {chosen}
    agree = (
        f"other criteria choose {', '.join(f'“{one}”' for one in sorted(others))}"
        if others
        else "every other criterion agrees"
    )
    return Selection(f"By {words(by)}, the checkpoint to keep is “{chosen}”; {agree}.", figures, choices)


def words(name: str) -> str:
    """The name of a criterion in words: `critical_entropy` is "critical entropy"."""
    return WORDS.get(name, name.replace("_", " "))


def _dots(table: dict[str, Any], criterion: str) -> Figure | None:
    """One dot per checkpoint: the criterion on the x axis, accuracy on other items on the y axis."""
    theirs = _values(table, "criteria", criterion)
    chosen = _dict(_dict(table.get("criteria")).get(criterion)).get("chosen")
    groups, facts = [], []
    for target, label, tone in TARGETS:
        accuracies = _values(table, "targets", target)
        dots = [
            Dot(x[0], y[0], f"{checkpoint}, {label}", x[1], y[1], checkpoint == chosen)
            for checkpoint, x in theirs.items() if (y := accuracies.get(checkpoint))
        ]  # fmt: skip
        if len(dots) > 1:
            groups.append(Dots(label, tone, dots))
            facts += [f"{label} r = {text}" for text in (_correlation(table, criterion, target),) if text]
    if not groups:
        return None
    name = words(criterion)
    svg = scatter(groups, f"Accuracy by {name} over checkpoints", name, "accuracy on held-out items")
    note = f"One dot per checkpoint, n = {len(groups[0].dots)}; bars are 95 % bootstrap intervals, a ring the choice."
    note += f" Pearson's {', '.join(facts)}." if facts else ""
    return Figure(f"Accuracy against {name}", note, svg, [(group.label, group.tone) for group in groups])


def _correlation(table: dict[str, Any], criterion: str, target: str) -> str:
    for row in _rows(table):
        if row.get("criterion") == criterion and row.get("target") == target:
            value, low, high = (number(row.get(f"pearson{end}")) for end in ("", "_low", "_high"))
            if value is not None:
                interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
                return f"{value:.2f}{interval}".replace("-", "−")
    return ""


def _correlations(table: dict[str, Any]) -> Figure | None:
    effects = []
    for target, label, tone in TARGETS:
        for row in _rows(table):
            value, low, high = (number(row.get(f"spearman{end}")) for end in ("", "_low", "_high"))
            if row.get("target") == target and value is not None and low is not None and high is not None:
                effects.append(Effect(f"{words(str(row.get('criterion')))}, {label}", value, low, high, tone))
    if not effects:
        return None
    svg = forest(effects, "Correlation of each criterion with accuracy", sides=("misleads", "predicts"))
    note = "Spearman's rank correlation over the checkpoints, with 95 % intervals; few checkpoints make them wide."
    return Figure("Which criterion predicts accuracy", note, svg, [(label, tone) for _, label, tone in TARGETS])


def _choice(table: dict[str, Any], criterion: str) -> dict[str, Any]:
    chosen = _dict(_dict(table.get("criteria")).get(criterion)).get("chosen")
    name = None if chosen is None else str(chosen)
    targets = [_values(table, "targets", target).get(name or "") for target, _, _ in TARGETS]
    value = _values(table, "criteria", criterion).get(name or "")
    return {"criterion": words(criterion), "chosen": name, "value": value[0] if value else None, "targets": targets}


Value = tuple[float, tuple[float, float] | None]


def _values(table: dict[str, Any], kind: str, name: str) -> dict[str, Value]:
    """Checkpoint -> (value, interval or None)."""
    found: dict[str, Value] = {}
    for checkpoint, row in _dict(_dict(_dict(table.get(kind)).get(name)).get("values")).items():
        value, low, high = (number(_dict(row).get(key)) for key in ("value", "low", "high"))
        if value is not None:
            found[str(checkpoint)] = value, None if low is None or high is None else (low, high)
    return found


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    rows = table.get("correlations")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
