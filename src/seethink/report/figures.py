"""The tables of a run and their figures: accuracy by stage, parts, what the data filter dropped, and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from seethink.report import charts
from seethink.report.charts import TONES, Bar, Figure
from seethink.report.load import Run, Score, Stage, number
from seethink.report.scores import Mean, domain_groups, domain_score, domains, main_mode, mean_score, percent

PHASES = ("rollout", "reward", "train")
DROP_WORDS = {
    "bad_format": "not in the required format",
    "wrong_answer": "final answer differs from the gold answer",
    "not_graded": "the grader gave no verdict",
    "too_long": "longer than the limit",
    "rambling": "repeats itself",
    "hallucinated": "says that the image cannot be seen",
    "language_mixed": "mixes languages",
}
"""The reasons for which `coldstart.filters` drops a trace."""


@dataclass(frozen=True, slots=True)
class PartRow:
    """One row of the table of parts: its size, its training, and its change."""

    name: str
    parameters: float | None
    trainable: bool
    in_optimizer: float | None
    lr: float | None
    change: float | None


def part_rows(stage: Stage) -> list[PartRow]:
    """The rows of parts.json, each with the last relative change that metrics.jsonl has for the part."""
    rows = []
    for row in stage.parts:
        name = str(row.get("part"))
        moved = stage.change(name)
        rows.append(
            PartRow(
                name=name,
                parameters=number(row.get("parameters")),
                trainable=row.get("trainable") is True,
                in_optimizer=number(row.get("in_optimizer")),
                lr=number(row.get("lr")),
                change=moved[-1][1] if moved else None,
            )
        )
    return rows


def accuracy_figure(run: Run) -> Figure | None:
    """Bars ± standard error: stages by in- and out-of-domain; for a single stage, its domains."""
    mode, groups = main_mode(run), domain_groups(run)
    if mode is None:
        return None
    if len(run.stages) == 1:
        names = domains(run)[:8]
        bars = [(name, [_bar(domain_score(run.stages[0], name, mode), name, TONES[0])]) for name in names]
        svg = charts.bar_chart(bars, "Accuracy by domain")
        return Figure("Accuracy by domain", f"{mode}; whiskers are ± 1 standard error.", svg)
    bars = [
        (stage.name, [_bar(mean_score(stage, names, mode), label, tone)
                      for (label, names), tone in zip(groups.items(), TONES, strict=False)])
        for stage in run.stages
    ]  # fmt: skip
    note = f"Mean over domains, {mode}; whiskers are ± 1 standard error."
    svg = charts.bar_chart(bars, "Accuracy by stage")
    return Figure("Accuracy by stage", note, svg, list(zip(groups, TONES, strict=False)))


def _bar(score: Mean | Score | None, label: str, tone: str) -> Bar | None:
    if score is None:
        return None
    spoken = f"{label}: {percent(score.accuracy, score.stderr)} %"
    return Bar(score.accuracy, score.stderr or 0.0, tone, spoken)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the cold-start filter read, kept and dropped."""

    read: float | None
    kept: float | None
    rows: list[tuple[str, float, float, str]]
    """(reason, count, share of the traces read, tone), largest first."""
    svg: Markup


def dropped(stage: Stage) -> Dropped | None:
    """The filter's counts from data.json; None where the stage recorded none."""
    counts = stage.data.get("dropped")
    counts = counts if isinstance(counts, dict) else {}
    read, kept = number(stage.data.get("read")), number(stage.data.get("kept"))
    if read is None and kept is None and not counts:
        return None
    found = [(str(key), value) for key, item in counts.items() if (value := number(item)) is not None]
    found.sort(key=lambda pair: -pair[1])
    named = [(DROP_WORDS.get(key, key.replace("_", " ")), count) for key, count in found]
    whole = read or sum(count for _, count in named) + (kept or 0) or 1
    parts = [(f"kept: {kept or 0:,.0f}", (kept or 0) / whole, "a")]
    tones = [*TONES[1:], *["f"] * len(named)]
    rows = [(word, count, count / whole, tone) for (word, count), tone in zip(named, tones, strict=False)]
    parts += [(f"{word}: {count:,.0f}", share, tone) for word, count, share, tone in rows]
    return Dropped(read, kept, rows, charts.stacked_bar(parts, "What the filter kept and dropped"))


@dataclass(frozen=True, slots=True)
class TimeRow:
    """One stage's clock in seconds; `phases` holds rollout, reward, train and the rest."""

    name: str
    steps: int
    seconds: float
    phases: dict[str, float]
    generated: float | None
    trained: float | None
    svg: Markup


def time_rows(run: Run) -> list[TimeRow]:
    """One row per stage that recorded times."""
    return [row for stage in run.stages if (row := _time_row(stage))]


def _time_row(stage: Stage) -> TimeRow | None:
    sums = {phase: sum(v for _, v in stage.points(f"time/{phase}_s")) for phase in PHASES}
    whole = sum(value for _, value in stage.points("time/step_s")) or sum(sums.values())
    if not whole:
        return None
    sums["other"] = max(0.0, whole - sum(sums.values()))
    total = max(whole, sum(sums.values()))
    parts = [(f"{phase}: {duration(sums[phase])}", sums[phase] / total, tone)
             for phase, tone in zip(sums, ("a", "c", "b", "f"), strict=True)]  # fmt: skip
    return TimeRow(
        name=stage.name,
        steps=len(stage.metrics),
        seconds=whole,
        phases=sums,
        generated=_mean(stage, "throughput/generated_tokens_per_s"),
        trained=_mean(stage, "throughput/trained_tokens_per_s"),
        svg=charts.stacked_bar(parts, f"Time by phase, {stage.name}"),
    )


def _mean(stage: Stage, key: str) -> float | None:
    values = [value for _, value in stage.points(key)]
    return sum(values) / len(values) if values else None


def duration(seconds: Any) -> str:
    """`42 s`, `9 min 05 s`, `3 h 20 min`."""
    value = number(seconds)
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
