"""Which figures and tables a stage gets, from what it recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from seethink.report import charts
from seethink.report.charts import Bar, Figure, Series
from seethink.report.load import PARTS, Run, Score, Stage, number
from seethink.report.scores import Mean, domain_groups, domain_score, domains, main_mode, mean_score, percent

TONES = ("a", "b", "c", "d", "e")
PART_TONES = dict(zip(PARTS, TONES[1:], strict=False))
PHASES = ("rollout", "reward", "train")
DROP_WORDS = {
    "wrong_answer": "final answer differs from the gold answer",
    "no_answer": "no final answer",
    "rambling": "repeats itself",
    "too_long": "longer than the limit",
    "too_short": "shorter than the limit",
    "language_mixed": "mixes languages",
    "format": "not in the asked format",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """One chart: metric keys and what to call them. It is drawn where any of its keys was recorded."""

    title: str
    note: str
    keys: tuple[tuple[str, str], ...]
    percent: bool = False
    log: bool = False
    from_zero: bool = False
    optional: bool = False
    """Not named as missing where the run lacks it."""


GRADIENTS = (
    ("optim/grad_norm", "all"),
    ("optim/grad_norm_vision", "vision"),
    ("optim/grad_norm_connector", "connector"),
    ("optim/grad_norm_language", "language"),
)
ENTROPY = Spec(
    "Entropy", "Nats over the vocabulary: all tokens, and where a critical word is about to come.",
    (("entropy/mean", "all tokens"), ("entropy/critical", "critical words")), from_zero=True,
)  # fmt: skip
"""Drawn where the run has no finer statistics."""
RL_SPECS = (
    Spec("Reward", "Mean over the step's completions, with its accuracy and format parts.",
         (("reward/mean", "reward"), ("reward/accuracy", "accuracy"), ("reward/format", "format")),
         from_zero=True),
    Spec("Groups without a signal", "Groups whose rewards are all equal; completions not graded.",
         (("advantage/zero_variance_share", "no variance"), ("reward/masked", "masked")), percent=True),
    Spec("Response length", "Tokens per completion.",
         (("response/length_mean", "mean"), ("response/length_max", "longest")), from_zero=True),
    Spec("Truncation", "Completions ended by the length limit.",
         (("response/truncated_share", "truncated"),), percent=True),
    ENTROPY,
    Spec("Critical mass", "Probability of critical words where a sentence starts.",
         (("entropy/critical_mass", "mass"),), percent=True, optional=True),
    Spec("Repetition", "Mean share of 4-grams that occurred before in the response; responses in a script that the "
         "question does not have.",
         (("response/repetition", "repeated"), ("response/mixed_script_share", "foreign script")),
         percent=True, optional=True),
    Spec("Compression", "Bytes of a response for each byte that zlib makes of it; large for a loop.",
         (("response/compression", "ratio"),), optional=True),
    Spec("Hallucination", "Responses that say the image cannot be seen.",
         (("hallucination/share", "share"),), percent=True, optional=True),
    Spec("Critical tokens", "Critical words sampled in the step.",
         (("entropy/critical_count", "count"),), from_zero=True, optional=True),
    Spec("Gradient norm", "Before clipping, whole and by part.", GRADIENTS, log=True),
    Spec("Sampler against trainer", "KL divergence of the two on the sampled tokens; 0 is exact agreement.",
         (("mismatch_kl/mean", "mean"), ("mismatch_kl/max", "largest")), log=True),
    Spec("Policy loss", "The clipped surrogate; on-policy its value says little, its jumps much.",
         (("loss/policy", "policy"), ("loss/kl", "KL"), ("loss/value", "value")), optional=True),
    Spec("Clipping", "Tokens whose ratio left the clip range.",
         (("loss/clip_fraction", "clipped"),), percent=True, optional=True),
    Spec("Verifier", "Of the answers that the rule called wrong: asked, judged right, left to the rule, masked.",
         (("verifier/asked_share", "asked"), ("verifier/yes_rate", "judged right"),
          ("verifier/rule_only_share", "left to the rule"), ("verifier/error_share", "masked")),
         percent=True, optional=True),
    Spec("Verifier down", "Seconds of the step without an answer from the verifier's server.",
         (("verifier/down_s", "down"),), from_zero=True, optional=True),
    Spec("Who said right", "Share of the right answers that only the verifier recognised; a rise is the first sign of "
         "a reward being gamed.", (("reward/by_verifier", "verifier"),), percent=True, optional=True),
)  # fmt: skip
SFT_SPECS = (
    Spec("Loss", "Cross-entropy per response token; validation on traces held out.",
         (("loss/total", "training"), ("loss/val", "validation"))),
    Spec("Gradient norm", "Before clipping, whole and by part.", GRADIENTS, log=True),
    Spec("Learning rate", "By part.",
         tuple((f"optim/lr_{part}", part) for part in PARTS), from_zero=True, optional=True),
)  # fmt: skip


def stage_figures(stage: Stage) -> tuple[list[Figure], list[str]]:
    """The stage's charts, and the titles of those for which nothing was recorded."""
    specs = {"rl": RL_SPECS, "sft": SFT_SPECS}.get(stage.kind, ())
    figures, missing = [], []
    for spec in specs:
        if spec is ENTROPY and stage.entropy:
            continue
        figure = _draw(stage, spec)
        if figure:
            figures.append(figure)
        elif not spec.optional:
            missing.append(spec.title.lower())
    figures += [figure for figure in (_change_figure(stage), _evaluation_figure(stage)) if figure]
    return figures, missing


def _draw(stage: Stage, spec: Spec) -> Figure | None:
    series: list[Series] = []
    for (key, label), tone in zip(spec.keys, TONES, strict=False):
        points = stage.points(key)
        same = next((place for place, one in enumerate(series) if one.points == points), None)
        if not points or (spec.optional and not any(value for _, value in points)):
            continue
        if same is None:
            series.append(Series(label, points, PART_TONES.get(label, tone)))
        else:
            series[same] = replace(series[same], label=f"{series[same].label}, {label}")
    return _figure(spec, series, stage)


def _figure(spec: Spec, series: Sequence[Series], stage: Stage) -> Figure | None:
    name = f"{spec.title} by step, {stage.name}"
    svg = charts.line_chart(series, name, spec.percent, spec.log, spec.from_zero)
    if not svg and series:
        svg = charts.line_chart(series, name, spec.percent, False, True)
    legend = [] if len(spec.keys) == 1 else [(one.label, one.tone) for one in series]
    return Figure(spec.title, spec.note, svg, legend) if svg else None


def _evaluation_figure(stage: Stage) -> Figure | None:
    """Held-out accuracy during training, one curve a domain (the five first)."""
    keys = sorted({key for row in stage.metrics for key in row if re.fullmatch("eval/.+/accuracy", key)})
    pairs = [(key, key.removeprefix("eval/").removesuffix("/accuracy")) for key in keys]
    spec = Spec("Held-out accuracy", "Evaluated during training.", tuple(pairs[: len(TONES)]), percent=True)
    return _draw(stage, spec)


def _change_figure(stage: Stage) -> Figure | None:
    """How far each part's weights moved; a part that stayed at 0 has no curve."""
    moved = [Series(part, stage.change(part), tone) for part, tone in PART_TONES.items()]
    series = [one for one in moved if any(value for _, value in one.points)]
    note = "‖w − w₀‖ / ‖w₀‖ since the stage began. A part that did not move has no curve."
    return _figure(Spec("Change per part", note, ()), series, stage)


@dataclass(frozen=True, slots=True)
class PartRow:
    """One part in the table of what trained and what moved."""

    name: str
    parameters: float | None
    trainable: bool
    in_optimizer: float | None
    lr: float | None
    change: float | None


def part_rows(stage: Stage) -> list[PartRow]:
    """The stage's parts with their last change; told by metrics where `changes` is empty."""
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
    """(reason, count, share of what was read, tone), largest first."""
    svg: Markup


def dropped(stage: Stage) -> Dropped | None:
    """None where the stage recorded no filter."""
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
    """The stages that recorded times."""
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
