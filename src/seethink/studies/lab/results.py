"""The values of a lab -> every claim with its effect and verdict; and the arms beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from seethink.core.statistics import mean_se
from seethink.runs.metrics import read_metrics
from seethink.runs.reading import read_object
from seethink.studies.lab.collect import Folders, collect_values, read_index, trained
from seethink.studies.lab.curves import Curve, reflection_curves
from seethink.studies.lab.looks import LOOKS, look_at
from seethink.studies.lab.moderation import NO_PRIOR, Prior, fit_priors
from seethink.studies.lab.reading import Unreadable, read_term
from seethink.studies.lab.schema import Claim, Experiment, Term
from seethink.studies.lab.values import ClaimValues, ExperimentValues, LabValues, SeedValues
from seethink.studies.lab.verdict import (
    UNKNOWN,
    UNTESTABLE,
    VERDICTS,
    Effect,
    Verdict,
    estimate_effect,
    judge,
    seed_effect,
)
from seethink.studies.selection.ranking import Regret, regret


@dataclass(frozen=True)
class Result:
    """The outcome of a claim; `why` says which check failed or what is missing."""

    claim: Claim
    effect: Effect | None
    verdict: Verdict
    why: str = ""
    q: float = math.nan
    """Of an effect in either direction, corrected for all claims; NaN where it is not tested."""


@dataclass(frozen=True)
class ArmRow:
    """One arm: (mean, standard error) over the seeds of each quantity; NaN where it was not measured.

    What was evaluated is of the last three checkpoints of an RL arm, and of the final model of any other.
    """

    name: str
    seeds: int
    inside: tuple[float, float]
    outside: tuple[float, float]
    tokens: tuple[float, float]
    reward: tuple[float, float]
    """Mean over the last quarter of the steps."""
    curve: list[tuple[float, float]]
    """(step, mean reward over the seeds)."""


@dataclass(frozen=True)
class ExperimentResult:
    experiment: Experiment
    scale: str
    seeds: int
    results: list[Result]
    arms: list[ArmRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reflections: dict[str, dict[str, Curve]] = field(default_factory=dict)
    """Arm -> how often "Wait" follows a first attempt, by step; of arms where that was measured."""
    first_seed: int = 0
    """The lowest of those measured."""
    regrets: list[Regret] = field(default_factory=list)
    """Per criterion, over the seeds of the arm whose checkpoints were compared."""


@dataclass(frozen=True)
class Results:
    experiments: list[ExperimentResult]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        verdicts = [r.verdict for e in self.experiments for r in e.results]
        return {name: verdicts.count(name) for name in VERDICTS}


def load_results(out: Path, values: LabValues | None = None) -> Results:
    """Read a lab's folder. `values`: those of the folder, perhaps joined with others'; read where not given.

    Raises LabError where no lab has run in it.
    """
    entries = read_index(out)["experiments"]
    found = judge_values(values or collect_values(out))
    experiments = [
        _with_arms(one, entries[one.experiment.name], out) if one.experiment.name in entries else one
        for one in found.experiments
    ]
    return replace(found, experiments=experiments)


def judge_values(values: LabValues) -> Results:
    """Every claim with its effect and verdict, from the values alone; without the arms."""
    priors = fit_scales(values)
    return Results(_with_q([_judged(one, priors) for one in values.experiments]), values.facts)


def fit_scales(values: LabValues) -> dict[str, Prior]:
    """Scale -> what the variances of its claims have in common."""
    return fit_priors((claim.scale, effects) for _, claim, effects in judged_effects(values))


def judged_effects(values: LabValues) -> Iterator[tuple[Experiment, Claim, list[float]]]:
    """Every claim with the effects of the seeds that it is judged by; those of ratios are logarithms."""
    for one in values.experiments:
        for claim, found in zip(one.experiment.claims, one.claims, strict=True):
            yield one.experiment, claim, [seed_effect(claim, seed) for seed in _judged_seeds(claim, found)]


def _judged(values: ExperimentValues, priors: dict[str, Prior]) -> ExperimentResult:
    experiment = values.experiment
    failed = {name: said for name in experiment.used_checks if (said := _failure(values, name))}
    results = [
        _result(claim, of_claim, priors, [failed[name] for name in _telling(claim, of_claim, values) if name in failed])
        for claim, of_claim in zip(experiment.claims, values.claims, strict=True)
    ]
    first_seed = min(values.measured, default=0)
    return ExperimentResult(experiment, values.scale, values.seeds, results, first_seed=first_seed)


def _judged_seeds(claim: Claim, values: ClaimValues) -> tuple[SeedValues, ...]:
    """All; of a primary claim those of its latest look. Before its first look all again: it is not judged then."""
    return values.seeds[: look_at(len(values.seeds)) or None] if claim.primary else values.seeds


def _with_q(experiments: list[ExperimentResult]) -> list[ExperimentResult]:
    """Benjamini and Hochberg's q, of the primary claims among themselves and of the others among themselves."""
    from scipy.stats import false_discovery_control

    found: dict[int, float] = {}
    for primary in (True, False):
        tested = {
            id(r): r.effect.p
            for one in experiments
            for r in one.results
            if r.claim.primary == primary and r.effect and math.isfinite(r.effect.p) and r.verdict != UNTESTABLE
        }
        q_values = false_discovery_control(list(tested.values())) if tested else []
        found |= zip(tested, map(float, q_values), strict=True)
    return [replace(e, results=[replace(r, q=found.get(id(r), math.nan)) for r in e.results]) for e in experiments]


def _telling(claim: Claim, of_claim: ClaimValues, values: ExperimentValues) -> list[str]:
    """The checks that count: where nothing of the claim was measured, a check that was not measured says nothing."""
    return [name for name in claim.checks if of_claim.seeds or values.checks[name].seeds]


def _failure(values: ExperimentValues, name: str) -> str:
    """What the check asked for and what there was; empty where it holds."""
    check, found = values.experiment.checks[name], values.checks[name]
    if not found.seeds:
        return f"{check.text}: not measured ({found.why})"
    mean = float(np.mean(list(found.seeds.values())))
    if check.holds(mean):
        return ""
    bound = f"at least {check.at_least:g}" if check.at_least is not None else f"at most {check.at_most:g}"
    return f"{check.text}: {mean:.3g} where {bound} was asked for"


def _result(claim: Claim, values: ClaimValues, priors: dict[str, Prior], failed: list[str]) -> Result:
    seeds = _judged_seeds(claim, values)
    effect = estimate_effect(claim, seeds, priors.get(claim.scale, NO_PRIOR)) if seeds else None
    if failed:
        return Result(claim, effect, UNTESTABLE, "; ".join(failed))
    if effect is None:
        return Result(claim, None, UNKNOWN, values.why)
    if claim.primary and effect.seeds not in LOOKS:
        return Result(claim, effect, UNKNOWN, f"A primary claim is judged from {LOOKS[0]} seeds on")
    return Result(claim, effect, judge(claim, effect), values.why or _waiting(len(values.seeds), effect.seeds))


def _waiting(seeds: int, judged: int) -> str:
    """Of a primary claim between two looks; after the last one no seed changes anything any more."""
    after = [look for look in LOOKS if look > judged]
    return (
        f"Judged by the first {judged} of {seeds} seeds, until there are {after[0]}" if seeds > judged and after else ""
    )


def _with_arms(one: ExperimentResult, entry: dict[str, Any], out: Path) -> ExperimentResult:
    folders = list(trained(entry, out).values())
    return replace(
        one,
        arms=[_arm_row(name, [f[name] for f in folders if name in f]) for name in entry["arms"]],
        problems=_problems(entry["arms"]),
        reflections={
            name: curves
            for name in entry["arms"]
            if (curves := reflection_curves([f[name] for f in folders if name in f]))
        },
        regrets=_regrets(one.experiment, folders),
    )


def _regrets(experiment: Experiment, folders: list[Folders]) -> list[Regret]:
    arms = [t.arm for claim in experiment.claims for t in claim.terms if t.regret]
    files = [f[arms[0]] / "select.json" for f in folders if arms and arms[0] in f]
    tables = [read_object(file) for file in files if file.exists()]
    return regret(tables) if tables else []


def _problems(arms: dict[str, list[dict[str, Any]]]) -> list[str]:
    said = [
        f"{name}, seed {row['seed']}: {row.get('cause', 'not finished')}"
        for name, rows in arms.items()
        for row in rows
        if row["state"] != "trained" or "cause" in row
    ]
    return list(dict.fromkeys(said))


def _arm_row(name: str, folders: list[Path]) -> ArmRow:
    def over_seeds(term: Term) -> tuple[float, float]:
        values = []
        for folder in folders:
            try:
                values.append(read_term(term, {name: folder}).value)
            except Unreadable:
                continue
        return mean_se(values)

    return ArmRow(
        name,
        len(folders),
        over_seeds(Term(arm=name, eval="accuracy", domain="in", newest=3)),
        over_seeds(Term(arm=name, eval="accuracy", domain="out", newest=3)),
        over_seeds(Term(arm=name, eval="tokens", newest=3)),
        over_seeds(Term(arm=name, metric="reward/mean", span=(0.75, 1.0))),
        _curve(folders, "reward/mean"),
    )


def _curve(folders: list[Path], key: str) -> list[tuple[float, float]]:
    by_step: dict[int, list[float]] = {}
    for folder in folders:
        for record in read_metrics(folder):
            if record.get(key) is not None:
                by_step.setdefault(record["step"], []).append(record[key])
    whole = max(map(len, by_step.values()), default=0)
    return [(step, float(np.mean(values))) for step, values in sorted(by_step.items()) if len(values) == whole]
