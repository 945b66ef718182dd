"""The blindness guard's checks of a stage: two charts, and the verdict in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seethink.report import charts
from seethink.report.charts import Figure, Series
from seethink.report.load import Stage, number
from seethink.report.scores import percent

PICTURES = (("true", "true picture", "a"), ("blank", "blank", "f"), ("shuffled", "another sample's", "b"))
WORDS = {
    "sees": "the image matters",
    "blind": "the image does not matter",
    "broken": "the pipeline loses or mixes up pixels",
    "too few samples": "there are too few samples to say whether the image matters",
}


@dataclass(frozen=True, slots=True)
class Sight:
    """The section; `bad` where a check failed. Gaps are in standard errors of the paired differences."""

    sentence: str
    bad: bool
    figures: list[Figure]


def sight(stage: Stage) -> Sight | None:
    """The section of a stage; None where the guard recorded no check."""
    rows = [row for row in stage.blindness if number(row.get("step")) is not None]
    if not rows:
        return None
    drawn = [
        _figure(rows, "accuracy", "Accuracy by picture", "Held-out samples, decoded greedily.", stage),
        _figure(rows, "logprob", "Gold log-prob by picture", "Per token of the gold answer, in nats.", stage),
    ]
    failed = [row for row in rows if row.get("verdict") in ("blind", "broken")]
    return Sight(_sentence(rows, failed), bool(failed), [figure for figure in drawn if figure])


def _figure(rows: list[dict[str, Any]], name: str, title: str, note: str, stage: Stage) -> Figure | None:
    series = []
    for kind, label, tone in PICTURES:
        pairs = ((number(row.get("step")), number(row.get(f"blindness/{name}_{kind}"))) for row in rows)
        points = [(step, value) for step, value in pairs if step is not None and value is not None]
        if points:
            series.append(Series(label, points, tone))
    svg = charts.line_chart(series, f"{title}, {stage.name}", percent=name == "accuracy")
    return Figure(title, note, svg, [(one.label, one.tone) for one in series]) if svg else None


def _sentence(rows: list[dict[str, Any]], failed: list[dict[str, Any]]) -> str:
    last = rows[-1]
    verdict = str(last.get("verdict"))
    parts = [f"At step {_step(last)}, the last of {len(rows)} checks, {WORDS.get(verdict, verdict)}"]
    checks = last.get("failed")
    if verdict == "broken" and isinstance(checks, list):
        parts[0] += f" ({', '.join(map(str, checks))} check failed)"
    parts += [text for text in (_numbers(last, "logprob"), _numbers(last, "accuracy")) if text]
    sentence = "; ".join(parts) + "."
    if last.get("stopped") is True:
        sentence += " The guard stopped the run there."
    before = [row for row in failed if row is not last]
    if before:
        sentence += f" It had failed before, at step {', '.join(map(_step, before[:8]))}."
    return sentence


def _step(row: dict[str, Any]) -> str:
    return f"{number(row.get('step')) or 0:,.0f}"


def _numbers(row: dict[str, Any], name: str) -> str:
    """`gold log-prob −0.14 with the true picture, −1.07 with a blank one (gap +15.3 se), ...`"""
    shown = []
    for kind, word in (("true", "the true picture"), ("blank", "a blank one"), ("shuffled", "another sample's")):
        value, t = (number(row.get(f"blindness/{name}_{what}")) for what in (kind, f"t_{kind}"))
        if value is not None:
            text = f"{percent(value)}\u00a0%" if name == "accuracy" else f"{value:.2f}"
            errors = "" if t is None else f" (gap {t:+.1f} se)"
            shown.append(f"{text} with {word}{errors}".replace("-", "\u2212"))
    return f"{'accuracy' if name == 'accuracy' else 'gold log-prob'} {', '.join(shown)}" if shown else ""
