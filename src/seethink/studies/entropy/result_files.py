"""Entropy results as files: `entropy.json` of a checkpoint, `entropy.jsonl` of a run. Both can be compared."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.files import finite_or_none, read_file, write_text
from seethink.core.sketch import Sketch
from seethink.entropy.meter import Estimate, GroupStats
from seethink.runs.reading import parse_object, read_steps
from seethink.studies.entropy.measurement import EntropyReport, EntropySettings

KIND = "seethink entropy"
RUN_FILE = "entropy.jsonl"


@dataclass(frozen=True, slots=True)
class Stored:
    """The part of a report or of a run that can be compared."""

    name: str
    unit: str
    """`prompt` or `step`: the estimates have a sum and a count for each."""
    ids: list[str]
    words: list[str]
    threshold: float
    means: dict[str, Estimate]
    """Mean entropy of every group; of a report also `critical_mass` and `accuracy`."""
    tails: dict[str, Estimate]
    """Share above the threshold in every group."""


def save_report(report: EntropyReport, path: Path) -> None:
    """Write the report as JSON. Raises UserError where `path` cannot be written."""
    table = {
        "kind": KIND,
        "model": report.model,
        "how": report.how,
        "seed": report.seed,
        "settings": asdict(report.settings),
        "threshold": report.threshold,
        "prompts": report.prompts,
        "completions": report.completions,
        "critical_mass": _estimate(report.critical_mass),
        "accuracy": _estimate(report.accuracy),
        "groups": {name: group.as_json() | _by_prompt(group) for name, group in report.groups.items()},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(table, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}; choose another --out") from None


def load_report(path: Path) -> EntropyReport:
    """Read what `save_report` wrote. Raises UserError for any other file."""
    try:
        table = parse_object(read_file(path))
        if table.get("kind") != KIND:
            raise ValueError(f"no {KIND!r} file")
        settings = dict(table["settings"])
        return EntropyReport(
            model=str(table["model"]),
            how=str(table["how"]),
            seed=int(table["seed"]),
            settings=EntropySettings(**settings | {"words": tuple(settings["words"])}),
            threshold=float(table["threshold"]),
            prompts=[str(name) for name in table["prompts"]],
            completions=int(table["completions"]),
            groups={name: _group(group) for name, group in table["groups"].items()},
            critical_mass=_read(table["critical_mass"]),
            accuracy=_read(table["accuracy"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a result of `seethink entropy`: {error}") from None


def load_stored(path: Path) -> Stored:
    """Read a report's file, or entropy.jsonl in a run's folder. Raises UserError."""
    if path.is_dir():
        return _of_run(path)
    return replace(of_report(load_report(path)), name=str(path))


def of_report(report: EntropyReport) -> Stored:
    """The comparable part of a report."""
    groups = report.groups.items()
    extra = {"critical_mass": report.critical_mass, "accuracy": report.accuracy}
    return Stored(
        name=report.model,
        unit="prompt",
        ids=report.prompts,
        words=list(report.settings.words),
        threshold=report.threshold,
        means={name: group.estimate for name, group in groups} | extra,
        tails={name: group.tail for name, group in groups},
    )


def is_stored(path: Path) -> bool:
    """Whether `path` holds results rather than a model."""
    return path.suffix == ".json" or (path / RUN_FILE).is_file()


def _of_run(folder: Path) -> Stored:
    """The units of a run are its steps: two runs with the same seed see the same prompts in each step."""
    lines = read_steps(folder / RUN_FILE)
    if not lines:
        raise UserError(f"{folder} has no {RUN_FILE} with a whole line; give the folder of a run, or an entropy.json")
    try:
        names = list(lines[-1]["groups"])
        counts = {name: np.array([line["groups"][name]["count"] for line in lines]) for name in names}

        def estimate(name: str, key: str) -> Estimate:
            values = [line["groups"][name][key] or 0.0 for line in lines]
            return Estimate(np.array(values, dtype=np.float64) * counts[name], counts[name])

        return Stored(
            name=str(folder),
            unit="step",
            ids=[str(line["step"]) for line in lines],
            words=list(lines[-1]["words"]),
            threshold=float(lines[-1]["threshold"]),
            means={name: estimate(name, "mean") for name in names},
            tails={name: estimate(name, "tail_share") for name in names},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / RUN_FILE} is damaged: {type(error).__name__}: {error}") from None


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": finite_or_none(estimate.mean),
        "se": finite_or_none(estimate.se),
        "n": estimate.n,
        "sums": estimate.sums.tolist(),
        "counts": estimate.counts.tolist(),
    }


def _by_prompt(group: GroupStats) -> dict[str, Any]:
    counts, tail = group.estimate.counts, group.tail.sums
    return {"sums": group.estimate.sums.tolist(), "counts": counts.tolist(), "above": tail.astype(int).tolist()}


def _read(table: dict[str, Any], sums: str = "sums") -> Estimate:
    return Estimate(np.array(table[sums], dtype=np.float64), np.array(table["counts"], dtype=np.int64))


def _group(table: dict[str, Any]) -> GroupStats:
    return GroupStats(Sketch.from_json(table["histogram"]), _read(table), _read(table, "above"))
