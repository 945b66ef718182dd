"""A term of a claim -> its value, read from the folder of one arm and seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from seethink.eval.presentation import ITEMS
from seethink.runs.metrics import read_metrics
from seethink.runs.reading import read_lines, read_object
from seethink.studies.lab.scales import inside_domains, names_of
from seethink.studies.lab.schema import Term
from seethink.studies.selection.study import (
    controlled_correlation,
    corrected,
    random_regret,
    regret_of,
    reliability,
)

HALLUCINATION = "hallucination.json"
DECODINGS = "decodings.jsonl"
FORKS = "forks.json"
REFLECTION = "reflection.json"
HEATED, HEATED_ABOUT = "causal.jsonl", "causal.json"
EARLIER_ITEMS = "eval/earlier.jsonl"
"""Items of the checkpoints before an RL arm's last one; absent of other arms."""


class Unreadable(Exception):  # noqa: N818  (no fault of the program: the arm has not recorded it)
    """The message says in a few words why there is no value."""


@dataclass(frozen=True)
class Reading:
    """A value. Where it is a mean over items, `items` has {id: value}, weighted so that their mean is the value."""

    value: float
    items: dict[str, float] | None = None
    newest: tuple[float, ...] | None = None
    """Of a mean over several checkpoints: the value of each, the oldest first."""

    def less(self, other: Reading) -> Reading:
        """The difference; of two means over items, over the items that both have."""
        newest = self.newest and tuple(value - other.value for value in self.newest)
        if self.items is None or other.items is None:
            return Reading(self.value - other.value, newest=newest)
        items = {k: v - other.items[k] for k, v in self.items.items() if k in other.items}
        return Reading(float(np.mean(list(items.values()))) if items else math.nan, items, newest)


def read_term(term: Term, folders: dict[str, Path]) -> Reading:
    """The value of `term`, given the folder of each arm for one seed. Raises Unreadable."""
    if term.study is not None:
        return _finite(term, Reading(_study(term, [folders[name] for name in term.arms])))
    reading = _read(term, folders[term.arm])
    if term.minus is None:
        return reading
    return reading.less(_read(term.model_copy(update={"arm": term.minus}), folders[term.minus]))


def _read(term: Term, folder: Path) -> Reading:
    return _finite(term, READERS[term.source](term, folder))


def _finite(term: Term, reading: Reading) -> Reading:
    if not math.isfinite(reading.value):
        raise Unreadable(f"{term.arm}: no finite value of {getattr(term, term.source)}")
    return reading


# --- held-out items


def _eval(term: Term, folder: Path) -> Reading:
    """Of the last checkpoint, or the mean over the last three, each of which counts the same."""
    key, last = term.eval or "", _rows(term, folder / "eval" / ITEMS)
    if term.newest == 1:
        return _over_items(term, last, key)
    by_checkpoint: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(term, folder / EARLIER_ITEMS):
        by_checkpoint.setdefault(row["checkpoint"], []).append(row)
    checkpoints = [*by_checkpoint.values(), last]
    found: dict[str, list[float]] = {}
    for row in chain.from_iterable(checkpoints):
        found.setdefault(row["id"], []).extend([row[key]] if row[key] is not None else [])
    means = [{**row, key: float(np.mean(found[row["id"]])) if found[row["id"]] else None} for row in last]
    newest = tuple(_over_items(term, rows, key).value for rows in checkpoints)
    return replace(_over_items(term, means, key), newest=newest)


def _decoding(term: Term, folder: Path) -> Reading:
    return _over_items(term, _rows(term, folder / DECODINGS), term.decoding or "")


def _heated(term: Term, folder: Path) -> Reading:
    if term.heated == "places":
        return Reading(float(_object(folder / HEATED_ABOUT, term)["places"]))
    return _over_items(term, _rows(term, folder / HEATED), term.heated or "")


def _reflection(term: Term, folder: Path) -> Reading:
    checkpoints = _object(folder / REFLECTION, term)["checkpoints"]
    if term.reflection == "attempts":
        return Reading(float(min(one[key] for one in checkpoints for key in ("num_wrong", "num_right"))))
    one = checkpoints[0 if term.reflection == "gap-before" else -1]
    if one["after_wrong"] is None or one["after_right"] is None:
        raise Unreadable(f"{term.arm}: no first attempt of a kind, so no finite value of {term.reflection}")
    return Reading(one["after_wrong"] - one["after_right"])


def _rows(term: Term, path: Path) -> list[dict[str, Any]]:
    damaged: list[int] = []
    rows = list(read_lines(path, damaged))
    if damaged:
        raise Unreadable(f"{term.arm}: line {damaged[0]} of {path} is damaged")
    return rows


def _over_items(term: Term, rows: list[dict[str, Any]], key: str) -> Reading:
    """The mean of what the rows have under `key`; every domain of the group has the same weight."""
    rows = [row for row in rows if in_group(row["domain"], term.domain) and row[key] is not None]
    rows = [row for row in rows if term.difficulty is None or row["difficulty"] in names_of(term.difficulty)]
    if not rows:
        raise Unreadable(f"{term.arm} has not been evaluated")
    sizes = Counter(row["domain"] for row in rows)
    weight = {domain: len(rows) / len(sizes) / size for domain, size in sizes.items()}
    items = {row["id"]: weight[row["domain"]] * row[key] for row in rows}
    return Reading(float(np.mean(list(items.values()))), items)


def in_group(domain: str, group: str) -> bool:
    return group == "all" or (domain in inside_domains()) == (group == "in")


# --- the training itself


def _metric(term: Term, folder: Path) -> Reading:
    records, key = read_metrics(folder), term.metric or ""
    first, last = math.floor(term.span[0] * len(records)), math.ceil(term.span[1] * len(records))
    values = [r[key] for r in records[first:last] if r.get(key) is not None]
    if not values:
        raise Unreadable(f"{term.arm}: metrics.jsonl has no {key}")
    return Reading(STATS[term.stat](np.array(values, dtype=float)))


def jitter(values: np.ndarray) -> float:
    """Median absolute change of the logarithm from step to step: how unsteady a positive series is, at any scale.

    A trend or a single spike changes it little; it is large for a series that jumps all the time.
    """
    steps = np.abs(np.diff(np.log(values[values > 0])))
    return float(np.median(steps)) if len(steps) else math.nan


STATS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(values.mean()),
    "max": lambda values: float(values.max()),
    "jitter": jitter,
}


# --- what other commands wrote


def _mode(term: Term, folder: Path) -> Reading:
    rows = [r for r in _object(folder / "modes.json", term)["rows"] if r["mode"] == term.mode]
    if term.budget is not None:
        largest = max((r["budget"] for r in rows), default=0)
        rows = [r for r in rows if r["forced"] and r["budget"] == round(term.budget * largest)]
    rows = [r for r in rows if r["domain"] != "all" and in_group(r["domain"], term.domain)]
    if not rows:
        raise Unreadable(f"{term.arm}: modes.json has no {term.mode}")
    return Reading(float(np.mean([r[term.column] for r in rows])))


TARGETS = {"in": "in_domain", "out": "out_of_domain"}


def _regret(term: Term, folder: Path) -> Reading:
    """Held-out accuracy of the best checkpoint less that of the checkpoint that the criterion chooses."""
    table = _object(folder / "select.json", term)
    accuracy = {name: v["value"] for name, v in table["targets"][TARGETS[term.domain]]["values"].items()}
    chosen = table["criteria"].get(term.regret, {}).get("chosen")
    if chosen is None:
        raise Unreadable(f"{term.arm}: {term.regret} chooses no checkpoint")
    return Reading(max(accuracy.values()) - accuracy[chosen])


def _correlation(term: Term, folder: Path) -> Reading:
    """Pearson's correlation of a criterion with held-out accuracy over the arm's checkpoints."""
    table = _object(folder / "select.json", term)
    wanted = (term.correlation, TARGETS[term.domain])
    found = [c["pearson"] for c in table["correlations"] if (c["criterion"], c["target"]) == wanted]
    if not found or found[0] is None:
        raise Unreadable(f"{term.arm}: no finite value of the correlation of {term.correlation}")
    return Reading(found[0])


def _tokens_of(term: Term, folder: Path) -> Reading:
    """A mean of few tokens is noise, however many checkpoints it ranks."""
    values = _object(folder / "select.json", term)["criteria"].get(term.tokens_of, {}).get("values", {})
    counts = [value.get("count") for value in values.values()]
    if not counts or None in counts:
        raise Unreadable(f"{term.arm}: select.json does not count the tokens behind {term.tokens_of}")
    return Reading(float(min(counts)))


# --- checkpoints of many runs


def _study(term: Term, folders: list[Path]) -> float:
    """Of the checkpoints in all folders together, by `selection/study.py`."""
    runs = [(_object(folder / "select.json", term), _object(folder / FORKS, term)) for folder in folders]
    fewest = min(len(one["entropies"]) for _, forks in runs for one in forks["checkpoints"].values())
    if term.study == "forks":
        return float(fewest)
    if fewest < 2:
        raise Unreadable(f"{term.arm} or a run beside it: {fewest} forks, so no finite value of the study")
    if term.study == "regret":
        return float(np.mean([_run_regret(term, table, forks) for table, forks in runs]))
    return _study_correlation(term, runs)


def _run_regret(term: Term, table: dict[str, Any], forks: dict[str, Any]) -> float:
    accuracy = {name: v["value"] for name, v in table["targets"][TARGETS[term.domain]]["values"].items()}
    if term.criterion == "random":
        return random_regret(accuracy)
    if term.criterion == "fork_entropy":
        means = {name: float(np.mean(one["entropies"])) for name, one in forks["checkpoints"].items()}
        return regret_of(max(reversed(means), key=lambda name: means[name]), accuracy)
    chosen = table["criteria"].get(term.criterion, {}).get("chosen")
    if chosen is None:
        raise Unreadable(f"{term.arm} or a run beside it: {term.criterion} chooses no checkpoint")
    return regret_of(chosen, accuracy)


def _study_correlation(term: Term, runs: list[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """Of the entropy at forks with accuracy, within runs and steps, corrected for the reliability of both."""
    entropy: list[tuple[float, float]] = []
    accuracy: list[tuple[float, float]] = []
    owners: list[int] = []
    steps: list[int] = []
    for owner, (table, forks) in enumerate(runs):
        targets = table["targets"][TARGETS[term.domain]]["values"]
        for name, one in forks["checkpoints"].items():
            entropy.append((float(np.mean(one["entropies"][::2])), float(np.mean(one["entropies"][1::2]))))
            first, second = (math.nan if half is None else half for half in targets[name]["halves"])
            accuracy.append((first, second))
            owners.append(owner)
            steps.append(one["step"])
    means = [[(first + second) / 2 for first, second in halves] for halves in (entropy, accuracy)]
    found = controlled_correlation(means[0], means[1], owners, steps)
    return corrected(found, *(reliability(halves, owners, steps) for halves in (entropy, accuracy)))


def _hallucination(term: Term, folder: Path) -> Reading:
    rows = _object(folder / HALLUCINATION, term)["rows"]
    value = next(row[term.hallucination]["value"] for row in rows if row["group"] == "all")
    if value is None:
        raise Unreadable(f"{term.arm}: no answer of that kind, so no finite value of {term.hallucination}")
    return Reading(value)


def _object(path: Path, term: Term) -> dict[str, Any]:
    if not path.exists():
        raise Unreadable(f"{term.arm} has no {path.name}")
    return read_object(path)


READERS: dict[str, Callable[[Term, Path], Reading]] = {
    "eval": _eval,
    "decoding": _decoding,
    "heated": _heated,
    "reflection": _reflection,
    "metric": _metric,
    "mode": _mode,
    "regret": _regret,
    "correlation": _correlation,
    "hallucination": _hallucination,
    "tokens_of": _tokens_of,
}
