"""The curves of a stage, drawn from metrics.jsonl."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from seethink.report import charts
from seethink.report.charts import TONES, Figure, Series
from seethink.report.load import PARTS, Stage
from seethink.report.plots import Dot, Dots, scatter
from seethink.report.scores import percent

PART_TONES = dict(zip(PARTS, TONES[1:], strict=False))
EVALUATED = re.compile(r"eval/([^/]+)/accuracy")
MOST_EVALUATIONS = 100
"""The most points of a curve of held-out accuracy."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One chart: (metric key, label) pairs. It is drawn where the run recorded any of the keys."""

    title: str
    note: str
    keys: tuple[tuple[str, str], ...]
    percent: bool = False
    log: bool = False
    from_zero: bool = False
    optional: bool = False
    """The page does not name it as missing where the run lacks it."""


GRADIENTS = (
    ("optim/grad_norm", "all"),
    ("optim/grad_norm_vision", "vision"),
    ("optim/grad_norm_connector", "connector"),
    ("optim/grad_norm_language", "language"),
)
ENTROPY = Spec(
    "Entropy", "Nats over the vocabulary: all tokens, and those at which a critical word begins.",
    (("entropy/mean", "all tokens"), ("entropy/critical", "critical words")), from_zero=True,
)  # fmt: skip
"""Drawn where the run has no entropy.jsonl."""
RL_SPECS = (
    Spec("Reward", "Mean over the step's completions, with its accuracy and format parts.",
         (("reward/mean", "reward"), ("reward/accuracy", "accuracy"), ("reward/format", "format")),
         from_zero=True),
    Spec("Groups without a signal", "Groups whose rewards are all equal; completions that were not graded.",
         (("advantage/zero_variance_share", "no variance"), ("reward/masked", "masked")), percent=True),
    Spec("Response length", "Tokens per completion.",
         (("response/length_mean", "mean"), ("response/length_max", "longest")), from_zero=True),
    Spec("Truncation", "Completions ended by the length limit.",
         (("response/truncated_share", "truncated"),), percent=True),
    ENTROPY,
    Spec("Critical mass", "Probability of critical words where a sentence starts.",
         (("entropy/critical_mass", "mass"),), percent=True, optional=True),
    Spec("Repetition", "Mean share of 4-grams that occurred before in the response; share of responses in a script "
         "that the question does not use.",
         (("response/repetition", "repeated"), ("response/mixed_script_share", "foreign script")),
         percent=True, optional=True),
    Spec("Compression", "Length of a response over its length after zlib; large for a response that loops.",
         (("response/compression", "ratio"),), optional=True),
    Spec("Hallucination", "Responses that say the image cannot be seen.",
         (("hallucination/share", "share"),), percent=True, optional=True),
    Spec("Critical tokens", "Critical words sampled in the step.",
         (("entropy/critical_count", "count"),), from_zero=True, optional=True),
    Spec("Gradient norm", "Before clipping, whole and by part.", GRADIENTS, log=True),
    Spec("Sampler against trainer", "KL divergence of the two on the sampled tokens; 0 is exact agreement.",
         (("mismatch_kl/mean", "mean"), ("mismatch_kl/max", "largest")), log=True),
    Spec("Policy loss", "The clipped surrogate; on-policy its value says little, but a jump in it says much.",
         (("loss/policy", "policy"), ("loss/kl", "KL"), ("loss/value", "value")), optional=True),
    Spec("Clipping", "Tokens whose ratio left the clip range.",
         (("loss/clip_fraction", "clipped"),), percent=True, optional=True),
    Spec("Verifier", "Of the answers that the rule called wrong: sent to the verifier, judged right by it, left to the "
         "rule's verdict, masked.",
         (("verifier/asked_share", "sent"), ("verifier/yes_rate", "judged right"),
          ("verifier/rule_only_share", "left to the rule"), ("verifier/error_share", "masked")),
         percent=True, optional=True),
    Spec("Verifier down", "Seconds per step without an answer from the verifier's server.",
         (("verifier/down_s", "down"),), from_zero=True, optional=True),
    Spec("Who said right", "Share of the right answers that only the verifier accepted; a rise is the first sign that "
         "the policy games the reward.", (("reward/by_verifier", "verifier"),), percent=True, optional=True),
)  # fmt: skip
SFT_SPECS = (
    Spec("Loss", "Cross-entropy per response token; validation on held-out traces.",
         (("loss/total", "training"), ("loss/val", "validation"))),
    Spec("Gradient norm", "Before clipping, whole and by part.", GRADIENTS, log=True),
    Spec("Learning rate", "By part.",
         tuple((f"optim/lr_{part}", part) for part in PARTS), from_zero=True, optional=True),
)  # fmt: skip


def stage_figures(stage: Stage) -> tuple[list[Figure], list[str]]:
    """The stage's charts, and the titles of the charts for which the run recorded nothing."""
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
    """Accuracy on held-out tasks, evaluated every `eval.every` steps: one line per task, with standard errors."""
    tasks = sorted({found[1] for row in stage.metrics for key in row if (found := EVALUATED.fullmatch(key))})
    dots = {task: _evaluations(stage, task) for task in tasks}
    lines = [Dots(task, tone, dots[task], joined=True)
             for task, tone in zip(filter(dots.get, tasks), TONES, strict=False)]  # fmt: skip
    svg = scatter(lines, f"Held-out accuracy by step, {stage.name}", "step", "accuracy")
    note = "Evaluated during training; bars are ± 1 standard error over the task's items."
    if hidden := len([task for task in tasks if dots[task]]) - len(lines):
        note += f" Not drawn: {hidden} more task{'s' if hidden > 1 else ''}."
    return Figure("Held-out accuracy", note, svg, [(line.label, line.tone) for line in lines]) if svg else None


def _evaluations(stage: Stage, task: str) -> list[Dot]:
    """One dot per evaluation, every n-th of them where there are more than `MOST_EVALUATIONS`."""
    points, errors = stage.points(f"eval/{task}/accuracy"), dict(stage.points(f"eval/{task}/stderr"))
    dots = []
    for step, accuracy in points[:: -(-len(points) // MOST_EVALUATIONS) or 1]:
        error = errors.get(step)
        ends = None if error is None else (max(0.0, accuracy - error), min(1.0, accuracy + error))
        dots.append(Dot(step, accuracy, f"{task}, step {step:,.0f}: {percent(accuracy, error)} %", y_ends=ends))
    return dots


def _change_figure(stage: Stage) -> Figure | None:
    """The relative change of each part's weights; a part that did not change has no curve."""
    moved = [Series(part, stage.change(part), tone) for part, tone in PART_TONES.items()]
    series = [one for one in moved if any(value for _, value in one.points)]
    note = "‖w − w₀‖ / ‖w₀‖ since the stage began. A part that did not move has no curve."
    return _figure(Spec("Change per part", note, ()), series, stage)
