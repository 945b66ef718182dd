"""lab.json and the arms' folders -> every claim with its effect and verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seethink.core.statistics import mean_se
from seethink.runs.metrics import read_metrics
from seethink.runs.reading import read_object
from seethink.studies.lab.reading import Reading, Unreadable, read_term
from seethink.studies.lab.scheduler import INDEX, read_times
from seethink.studies.lab.schema import Claim, Experiment, LabError, Term, load_experiments
from seethink.studies.lab.verdict import UNKNOWN, Effect, Verdict, estimate_effect, judge
from seethink.studies.selection.ranking import Regret, regret


@dataclass(frozen=True)
class Result:
    """The outcome of a claim; `why` says what is missing where there is no effect."""

    claim: Claim
    effect: Effect | None
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True)
class ArmRow:
    """One arm: (mean, standard error) over the seeds of each quantity; NaN where it was not measured."""

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
    arms: list[ArmRow]
    problems: list[str]
    regrets: list[Regret] = field(default_factory=list)
    """Per criterion, over the seeds of the arm whose checkpoints were compared."""


@dataclass(frozen=True)
class Results:
    experiments: list[ExperimentResult]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        verdicts = [r.verdict for e in self.experiments for r in e.results]
        return {name: verdicts.count(name) for name in ("agrees", "disagrees", UNKNOWN)}


def load_results(out: Path) -> Results:
    """Read a lab's folder. Raises LabError where no lab has run in it."""
    path = out / INDEX
    if not path.exists():
        raise LabError(f"{path} does not exist: run `seethink lab run NAME --out {out}` first")
    index = read_object(path)
    known, entries = load_experiments(), index["experiments"]
    found = [_experiment(known[name], entries[name], out) for name in known if name in entries]
    return Results(found, _facts(index, out))


def _experiment(experiment: Experiment, entry: dict[str, Any], out: Path) -> ExperimentResult:
    arms: dict[str, list[dict[str, Any]]] = entry["arms"]
    seeds: int = entry["seeds"]
    folders = [
        {name: out / rows[seed]["folder"] for name, rows in arms.items() if rows[seed]["state"] == "trained"}
        for seed in range(seeds)
    ]
    return ExperimentResult(
        experiment,
        entry["scale"],
        seeds,
        [_result(claim, folders) for claim in experiment.claims],
        [_arm_row(name, [f[name] for f in folders if name in f]) for name in arms],
        _problems(arms),
        _regrets(experiment, folders),
    )


def _regrets(experiment: Experiment, folders: list[dict[str, Path]]) -> list[Regret]:
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


def _result(claim: Claim, folders: list[dict[str, Path]]) -> Result:
    """Over the seeds for which every arm of the claim has finished and recorded the value."""
    pairs: list[tuple[Reading, Reading | None]] = []
    why = ""
    for of_seed in folders:
        try:
            left, *rest = [_read(term, of_seed) for term in claim.terms]
            pairs.append((left, rest[0] if rest else None))
        except Unreadable as reason:
            why = why or str(reason)
    if not pairs:
        return Result(claim, None, UNKNOWN, why)
    effect = estimate_effect(claim, pairs)
    return Result(claim, effect, judge(claim, effect), why)


def _read(term: Term, folders: dict[str, Path]) -> Reading:
    for name in term.arms:
        if name not in folders:
            raise Unreadable(f"{name} has not finished")
    return read_term(term, folders)


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
        over_seeds(Term(arm=name, eval="accuracy", domain="in")),
        over_seeds(Term(arm=name, eval="accuracy", domain="out")),
        over_seeds(Term(arm=name, eval="tokens")),
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


def _facts(index: dict[str, Any], out: Path) -> dict[str, str]:
    """When, where and from which commit the arms were run, and how long they took."""
    entries = index["experiments"].values()
    folders = {row["folder"] for e in entries for rows in e["arms"].values() for row in rows}
    seconds = sum(cpu for folder in folders for _, cpu in read_times(out / folder).values())
    facts = {
        **index["facts"],
        "Time": f"{seconds / 3600:.1f} CPU hours",
        "Jobs": f"{len(folders):,}",
        "Scale": ", ".join(sorted({e["scale"] for e in entries})),
    }
    return {key: str(value) for key, value in facts.items() if value}
