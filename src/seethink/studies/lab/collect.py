"""lab.json and the arms' folders -> the values of every claim and check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from seethink.runs.reading import read_object
from seethink.studies.lab.reading import Reading, Unreadable, read_term
from seethink.studies.lab.scheduler import INDEX, read_times
from seethink.studies.lab.schema import Claim, Experiment, LabError, Term, load_experiments
from seethink.studies.lab.values import CheckValues, ClaimValues, ExperimentValues, LabValues, SeedValues

T = TypeVar("T")
Folders = dict[str, Path]
"""Arm -> its folder for one seed, of the arms that are trained."""


def read_index(out: Path) -> dict[str, Any]:
    """The content of lab.json. Raises LabError where no lab has run in the folder."""
    path = out / INDEX
    if not path.exists():
        raise LabError(f"{path} does not exist: run `seethink lab run NAME --out {out}` first")
    return read_object(path)


def trained(entry: dict[str, Any], out: Path) -> dict[int, Folders]:
    """By seed, given an experiment's entry in lab.json."""
    found: dict[int, Folders] = {}
    for name, rows in entry["arms"].items():
        for row in rows:
            of_seed = found.setdefault(row["seed"], {})
            if row["state"] == "trained":
                of_seed[name] = out / row["folder"]
    return found


def collect_values(out: Path) -> LabValues:
    """Everything that the lab in this folder has measured. Raises LabError where no lab has run in it."""
    index = read_index(out)
    known, entries = load_experiments(), index["experiments"]
    found = [_experiment(known[name], entries[name], out) for name in known if name in entries]
    return LabValues(experiments=tuple(found), facts=_facts(index, out))


def _experiment(experiment: Experiment, entry: dict[str, Any], out: Path) -> ExperimentValues:
    folders, checks = trained(entry, out), experiment.used_checks
    return ExperimentValues(
        experiment=experiment.model_copy(update={"arms": {}, "checks": checks}),
        scale=entry["scale"],
        seeds=entry["seeds"],
        claims=tuple(_claim(claim, folders) for claim in experiment.claims),
        checks={name: _check(check.value, folders) for name, check in checks.items()},
    )


def _claim(claim: Claim, folders: dict[int, Folders]) -> ClaimValues:
    """Over the seeds for which every arm of the claim has finished and recorded the value."""

    def of_seed(seed: int) -> SeedValues:
        left, *rest = [_read(term, folders[seed]) for term in claim.terms]
        return SeedValues.of(claim, seed, left, rest[0] if rest else None)

    found, why = _per_seed(of_seed, folders)
    return ClaimValues(seeds=tuple(found.values()), why=why)


def _check(term: Term, folders: dict[int, Folders]) -> CheckValues:
    found, why = _per_seed(lambda seed: _read(term, folders[seed]).value, folders)
    return CheckValues(seeds=found, why=why)


def _per_seed(read: Callable[[int], T], seeds: Iterable[int]) -> tuple[dict[int, T], str]:
    """What can be read, and why the first of the others cannot."""
    found: dict[int, T] = {}
    why = ""
    for seed in seeds:
        try:
            found[seed] = read(seed)
        except Unreadable as reason:
            why = why or str(reason)
    return found, why


def _read(term: Term, folders: Folders) -> Reading:
    for name in term.arms:
        if name not in folders:
            raise Unreadable(f"{name} has not finished")
    return read_term(term, folders)


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
