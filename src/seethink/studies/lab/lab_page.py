"""The lab's report: one self-contained HTML page in the style of the run reports."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from seethink.core.statistics import Interval
from seethink.report.charts import Figure, Series, line_chart
from seethink.report.html import asset, environment, policy
from seethink.report.plots import Effect, forest
from seethink.studies.lab.results import ArmRow, ExperimentResult, Result, Results
from seethink.studies.lab.schema import MARK, Claim
from seethink.studies.lab.table import INTERVALS, MEANINGS, NO_EFFECT, PRIMARY, bar, number, share, shown, size

STYLES = ("report.css", "charts.css", "lab.css")
TONES = ("a", "b", "c", "d", "e", "f")
UNITS = {"points": "Effects in points", "%": "Effects as changes in %", "": "Effects in their own unit"}
VERDICT_TONES = {"agrees": "c", "too small": "d", "absent": "e", "reversed": "b", "can't tell": "f", "untestable": "f"}


def render(results: Results) -> str:
    """The HTML page as text."""
    style = asset(*STYLES)
    return (
        environment()
        .get_template("lab.html.j2")
        .render(
            policy=policy(style),
            style=Markup(style),
            facts=results.facts,
            counts=results.counts,
            meanings=MEANINGS,
            no_effect=NO_EFFECT,
            intervals=INTERVALS,
            primary=PRIMARY,
            claims=sum(results.counts.values()),
            experiments=[_experiment(one) for one in results.experiments],
        )
    )


def _experiment(one: ExperimentResult) -> dict[str, Any]:
    experiment = one.experiment
    return {
        "name": experiment.name,
        "title": experiment.title,
        "section": "open question" if experiment.section == "open" else f"§ {experiment.section}",
        "note": experiment.note,
        "claims": [_claim(result) for result in one.results],
        "figures": [*_forests(one), *_curves(one), *_reflections(one)],
        "arms": [_arm(row) for row in one.arms],
        "problems": one.problems,
        "regrets": [(r.criterion, _interval(r.regret), _interval(r.less_than_last), r.regret.n) for r in one.regrets],
    }


def _interval(found: Interval) -> str:
    """An interval in percentage points."""
    value, low, high = (f"{100 * x:+.1f}".replace("-", "\u2212") for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]" if math.isfinite(found.low) else value


def _claim(result: Result) -> dict[str, Any]:
    claim = result.claim
    return {
        "text": claim.text,
        "mark": MARK if claim.primary else "",
        "paper": claim.paper,
        "effect": shown(claim, result.effect),
        "seeds": ", ".join(number(claim, v) for v in result.effect.by_seed) if result.effect else "",
        "least": bar(claim),
        "n": size(result.effect),
        "q": share(result.q),
        "verdict": result.verdict,
        "why": result.why,
    }


def _forests(one: ExperimentResult) -> list[Figure]:
    """One figure per unit, of the claims that have an interval."""
    figures = []
    for unit, title in UNITS.items():
        lines = [_line(r, unit) for r in one.results if _unit(r.claim) == unit and _has_interval(r)]
        if lines:
            note = f"With intervals over {one.seeds} seeds."
            if any(line.claim is not None for line in lines):
                note += " Diamond: the paper's figure."
            verdicts = {r.verdict for r in one.results if _unit(r.claim) == unit and _has_interval(r)}
            legend = [(word, tone) for word, tone in VERDICT_TONES.items() if word in verdicts]
            figures.append(Figure(title, note, forest(lines, f"{one.experiment.title}: {title}", unit), legend))
    return figures


def _unit(claim: Claim) -> str:
    return {"factor": "%", "points": "points"}.get(claim.scale, "")


def _has_interval(result: Result) -> bool:
    effect = result.effect
    return effect is not None and all(map(math.isfinite, (effect.value, effect.low, effect.high)))


def _line(result: Result, unit: str) -> Effect:
    claim, effect = result.claim, result.effect
    assert effect is not None
    value, low, high = (_scaled(claim, x) for x in (effect.value, effect.low, effect.high))
    paper = None if claim.paper_effect is None else _scaled(claim, claim.paper_effect)
    return Effect(claim.text, value, low, high, tone=VERDICT_TONES[result.verdict], claim=paper)


def _scaled(claim: Claim, value: float) -> float:
    return 100 * (value - 1) if claim.ratio else 100 * value if claim.scale == "points" else value


def _curves(one: ExperimentResult) -> list[Figure]:
    arms = [(arm, tone) for arm, tone in zip((a for a in one.arms if a.curve), TONES, strict=False)]
    if not arms:
        return []
    svg = line_chart([Series(arm.name, arm.curve, tone) for arm, tone in arms], f"{one.experiment.title}: reward")
    return [Figure("Reward by step", "Mean over seeds.", svg, [(arm.name, tone) for arm, tone in arms])]


def _reflections(one: ExperimentResult) -> list[Figure]:
    """Of every arm in which it was measured, how often "Wait" follows a first attempt."""
    figures = []
    for arm, curves in one.reflections.items():
        named = list(zip(curves.items(), TONES, strict=False))
        svg = line_chart([Series(name, curve, tone) for (name, curve), tone in named], f"{arm}: Wait by step")
        note = "P(Wait) after a wrong and a right first attempt; mean over seeds. Step 0 is before RL."
        figures.append(Figure(f"How often \u201cWait\u201d follows: {arm}", note, svg, [(n, t) for (n, _), t in named]))
    return figures


def _arm(row: ArmRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "seeds": row.seeds,
        "cells": [
            _cell(row.inside, 100, 1),
            _cell(row.outside, 100, 1),
            _cell(row.tokens, 1, 0),
            _cell(row.reward, 1, 3),
        ],
    }


def _cell(pair: tuple[float, float], factor: float, digits: int) -> tuple[str, str]:
    mean, error = (x * factor for x in pair)
    return ("–", "") if math.isnan(mean) else (f"{mean:.{digits}f}", "" if math.isnan(error) else f"{error:.{digits}f}")
