"""Accuracy by stage, in and out of the trained domain, and the sentences that state it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.table import Table
from rich.text import Text

from seethink.core.redact import visible
from seethink.report.load import Run, Score, Stage, load_run

ALL = "All domains"


@dataclass(frozen=True, slots=True)
class Mean:
    """The plain mean over domains; its standard error takes the domains as independent."""

    accuracy: float
    stderr: float | None
    n: int | None
    mean_tokens: float | None
    domains: int


def main_mode(run: Run) -> str | None:
    """The decoding mode that most stages share; among equals, sampling (`avg@k`) before greedy."""
    modes = {score.mode for stage in run.stages for score in stage.scores}
    shared = {mode: sum(any(s.mode == mode for s in stage.scores) for stage in run.stages) for mode in modes}
    return max(modes, key=lambda mode: (shared[mode], mode.startswith("avg"), mode), default=None)


def domain_groups(run: Run) -> dict[str, tuple[str, ...]]:
    """The in-domain and the out-of-domain names; one group of all domains where the run does not say."""
    seen = domains(run)
    if not run.in_domain:
        return {ALL: seen} if seen else {}
    outside = run.out_of_domain or tuple(name for name in seen if name not in run.in_domain)
    groups = {"In-domain": run.in_domain, "Out-of-domain": outside}
    return {label: names for label, names in groups.items() if set(names) & set(seen)}


def domains(run: Run) -> tuple[str, ...]:
    """Every scored domain: the trained ones, then the others in the order of the run's list, then the rest."""
    seen = dict.fromkeys(score.domain for stage in run.stages for score in stage.scores)
    first = [name for name in (*run.in_domain, *run.out_of_domain) if name in seen]
    return tuple(dict.fromkeys([*first, *seen]))


def domain_score(stage: Stage, domain: str, mode: str) -> Score | None:
    """The domain's score over all difficulties, pooled from the difficulties where only those were kept."""
    rows = [score for score in stage.scores if score.domain == domain and score.mode == mode]
    whole = next((score for score in rows if score.difficulty == "all"), None)
    return whole or _pool(domain, mode, rows)


def _pool(domain: str, mode: str, rows: list[Score]) -> Score | None:
    sizes = [row.n for row in rows if row.n]
    if not rows or len(sizes) != len(rows):
        return None
    total = sum(sizes)
    errors = [row.stderr for row in rows if row.stderr is not None]
    spread = math.sqrt(sum((n * e / total) ** 2 for n, e in zip(sizes, errors, strict=False)))
    return Score(
        domain=domain,
        difficulty="all",
        mode=mode,
        accuracy=sum(n * row.accuracy for n, row in zip(sizes, rows, strict=True)) / total,
        stderr=spread if len(errors) == len(rows) else None,
        n=total,
    )


def mean_score(stage: Stage, names: Iterable[str], mode: str) -> Mean | None:
    """The stage's mean over the domains that it was scored on."""
    rows = [score for name in names if (score := domain_score(stage, name, mode))]
    if not rows:
        return None
    errors = [row.stderr for row in rows if row.stderr is not None]
    sizes = [row.n for row in rows if row.n is not None]
    tokens = [row.mean_tokens for row in rows if row.mean_tokens is not None]
    whole = len(errors) == len(rows)
    return Mean(
        accuracy=sum(row.accuracy for row in rows) / len(rows),
        stderr=math.sqrt(sum(error**2 for error in errors)) / len(rows) if whole else None,
        n=sum(sizes) if len(sizes) == len(rows) else None,
        mean_tokens=sum(tokens) / len(tokens) if tokens else None,
        domains=len(rows),
    )


def percent(value: float | None, stderr: float | None = None) -> str:
    """`71.0 ± 1.2` for shares; a dash for None."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if stderr is None else f"{100 * value:.1f} ± {100 * stderr:.1f}"


def summary_table(run: Path | Run) -> Table:
    """The stages with their accuracies, for a terminal; `run` is a run's folder."""
    run = run if isinstance(run, Run) else load_run(Path(run))
    mode = main_mode(run)
    groups = domain_groups(run)
    table = Table(title=Text(f"Accuracy in % ± standard error ({visible(mode)})" if mode else "Accuracy"))
    table.add_column("Stage")
    for label, names in groups.items():
        named = visible(names[0]) if len(names) == 1 else f"{len(names)} domains"
        for heading in (Text(f"{label}\n{named}"), "n", "tokens"):
            table.add_column(heading, justify="right")
    table.caption = "no stage has been evaluated" if mode is None else Text(visible(run.note))
    for stage in run.stages:
        means = [mean_score(stage, names, mode) for names in groups.values()] if mode else []
        table.add_row(Text(visible(stage.name)), *(cell for mean in means for cell in _cells(mean)))
    return table


def _cells(mean: Mean | None) -> tuple[str, str, str]:
    if mean is None:
        return "–", "–", "–"
    tokens = "–" if mean.mean_tokens is None else f"{mean.mean_tokens:.0f}"
    return percent(mean.accuracy, mean.stderr), "–" if mean.n is None else f"{mean.n:,}", tokens


def accuracy_sentences(run: Run) -> list[str]:
    """The accuracies in words, one sentence per group of domains."""
    mode = main_mode(run)
    if mode is None:
        return []
    sentences = []
    for label, names in domain_groups(run).items():
        rows = [(stage.name, mean) for stage in run.stages if (mean := mean_score(stage, names, mode))]
        if rows:
            sentences.append(_sentence(label, names, mode, rows))
    return sentences


def _sentence(label: str, names: tuple[str, ...], mode: str, rows: list[tuple[str, Mean]]) -> str:
    first_name, first = rows[0]
    size = "" if first.n is None else f", n = {first.n:,}"
    where = names[0] if len(names) == 1 else f"mean of {first.domains} domains"
    named = "Accuracy" if label == ALL else f"{label} accuracy"
    start = f"{named} ({where}, {mode}{size}) is {_said(first)} for {first_name}"
    steps = [_step(name, mean, before) for (_, before), (name, mean) in pairwise(rows)]
    return "; ".join([start, *steps]) + "."


def _said(mean: Mean) -> str:
    return f"{percent(mean.accuracy, mean.stderr)} %".replace(" ", "\u00a0")


def _step(name: str, mean: Mean, before: Mean) -> str:
    """One stage against the stage before it; below two standard errors, no clear change."""
    points = 100 * (mean.accuracy - before.accuracy)
    signed = f"{points:+.1f}".replace("-", "\u2212")
    spread = 100 * math.hypot(mean.stderr or 0.0, before.stderr or 0.0)
    if mean.stderr is None or before.stderr is None or not spread:
        return f"{name} brings it to {_said(mean)} ({signed})"
    errors = abs(points) / spread
    if errors < 2:
        return f"{name} leaves it at {_said(mean)}, no clear change ({signed}, {errors:.1f} standard errors)"
    verb = "raises" if points > 0 else "lowers"
    return f"{name} {verb} it to {_said(mean)} ({signed}, {errors:.0f} standard errors)"
