"""Which checkpoint of a run to keep: criteria with their uncertainty, and how well each predicts held-out accuracy.

Criteria are measured on one half of the items and judged by accuracy on the other half, so that no criterion is
correlated with itself. The paper (5.1) chooses by the entropy at critical tokens.
Letters: C checkpoints, K items, B bootstrap resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.files import finite_or_none
from seethink.core.statistics import Interval, ends, pearson, resampled_ratios, spearman, t_interval
from seethink.core.types import Sample
from seethink.entropy.meter import Estimate
from seethink.studies.selection.checkpoints import CheckpointEstimates

BETTER = {
    "critical_entropy": "higher",
    "entropy_following": "higher",
    "entropy_mean": "lower",
    "tail_share": "higher",
    "reward": "higher",
    "uncertain_reward": "higher",
    "accuracy": "higher",
    "out_of_domain_accuracy": "higher",
    "last": "higher",
}
"""Which direction each criterion prefers. In the paper, critical entropy rises with accuracy, and while training goes
well the mean entropy falls and the share of high-entropy tokens rises (6.5)."""
METRICS = {"reward": "reward/mean", "uncertain_reward": "reward/uncertain"}
"""Criteria that are metrics of training."""
ENTROPIES = {"critical_entropy": "critical", "entropy_following": "following", "entropy_mean": "all"}
TARGETS = ("in_domain", "out_of_domain")


@dataclass(frozen=True, slots=True)
class Scored:
    """One criterion or target on every checkpoint."""

    name: str
    values: dict[str, Interval]
    """Checkpoint -> value; n counts the items behind it (for the reward, the steps)."""
    best_share: dict[str, float]
    """Checkpoint -> share of bootstrap resamples in which it is the best."""
    counts: dict[str, int] = field(default_factory=dict)
    """Checkpoint -> tokens, or responses, that the value is the mean of; empty where it is no mean of such."""
    halves: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Checkpoint -> the value over every second item, and over the others: how well it is measured; empty likewise."""

    @property
    def chosen(self) -> str | None:
        """The best checkpoint, and among equal ones the latest; None where nothing could be measured."""
        known = [name for name, value in self.values.items() if math.isfinite(value.value)]
        return max(reversed(known), key=self.better) if known else None

    def better(self, checkpoint: str) -> float:
        """The checkpoint's value, with the sign that makes more better; -inf where it could not be measured."""
        value = self.values[checkpoint].value
        return sign(self.name) * value if math.isfinite(value) else -math.inf


def sign(criterion: str) -> int:
    return -1 if BETTER.get(criterion) == "lower" else 1


@dataclass(frozen=True, slots=True)
class Correlation:
    """How a criterion correlates with held-out accuracy over the checkpoints."""

    criterion: str
    target: str
    pearson: Interval
    spearman: Interval


@dataclass(frozen=True, slots=True)
class Selection:
    """The result for one run, as select.json stores it."""

    criteria: dict[str, Scored]
    targets: dict[str, Scored]
    correlations: list[Correlation]
    by: str

    @property
    def chosen(self) -> str:
        found = self.criteria[self.by].chosen
        assert found is not None
        return found

    def as_json(self) -> dict[str, Any]:
        """NaN becomes null."""
        return {
            "by": self.by,
            "chosen": self.chosen,
            "criteria": {
                name: {"better": BETTER[name], "chosen": scored.chosen, "values": _values(scored)}
                for name, scored in self.criteria.items()
            },
            "targets": {name: {"values": _values(scored)} for name, scored in self.targets.items()},
            "correlations": [
                {"criterion": c.criterion, "target": c.target, **_flat("pearson", c.pearson),
                 **_flat("spearman", c.spearman), "n": c.pearson.n}
                for c in self.correlations
            ],
        }  # fmt: skip


def halves(samples: Sequence[Sample]) -> np.ndarray:
    """[K] True for the items that criteria are measured on: every second item of each domain."""
    seen: dict[str, int] = {}
    first = []
    for sample in samples:
        first.append(seen.get(sample.domain, 0) % 2 == 0)
        seen[sample.domain] = seen.get(sample.domain, 0) + 1
    return np.array(first)


def select(
    checkpoints: Sequence[CheckpointEstimates],
    samples: Sequence[Sample],
    in_domain: Sequence[str],
    rewards: Mapping[str, Mapping[int, float]],
    *,
    by: str = "critical_entropy",
    seed: int = 0,
) -> Selection:
    """Rank [C] checkpoints, given in order and measured on [K] `samples`.

    `rewards` has the value of each step of the criteria in METRICS that are known. Raises UserError where `by` cannot
    choose.
    """
    inside = np.array([s.domain in in_domain for s in samples])
    criterion_half = halves(samples)
    _require_items(inside, criterion_half)
    names = [c.name for c in checkpoints]

    def scored(name: str, quantity: str, chosen: np.ndarray) -> Scored:
        own = [c.estimates[quantity] for c in checkpoints]
        return _scored(
            name, names, np.stack([e.sums[chosen] for e in own]), np.stack([e.counts[chosen] for e in own]), seed
        )

    criteria = {name: scored(name, quantity, criterion_half & inside) for name, quantity in ENTROPIES.items()}
    criteria["tail_share"] = scored("tail_share", "tail", criterion_half & inside)
    reach = float(np.median(np.diff([c.step for c in checkpoints])))
    if rewards.get("reward"):
        criteria["reward"] = _reward("reward", checkpoints, rewards["reward"], (-reach / 2, reach / 2), seed)
    if uncertain := rewards.get("uncertain_reward"):
        criteria["uncertain_reward"] = _reward("uncertain_reward", checkpoints, uncertain, (1 - reach, 0), seed)
    criteria["accuracy"] = scored("accuracy", "accuracy", criterion_half & inside)
    targets = {"in_domain": scored("in_domain", "accuracy", ~criterion_half & inside)}
    if not inside.all():
        criteria["out_of_domain_accuracy"] = scored("out_of_domain_accuracy", "accuracy", criterion_half & ~inside)
        targets["out_of_domain"] = scored("out_of_domain", "accuracy", ~criterion_half & ~inside)
    criteria["last"] = _last(checkpoints)
    _require(by, criteria)
    return Selection(criteria, targets, _correlations(criteria, targets, seed), by)


def _scored(name: str, names: list[str], sums: np.ndarray, counts: np.ndarray, seed: int) -> Scored:
    """From [C, K] sums and counts. All checkpoints share each resample, so that hard items do not blur their order."""
    values = [Estimate(*own).mean for own in zip(sums, counts, strict=True)]
    draws = resampled_ratios(sums, counts, seed=seed)
    found = _with_draws(name, names, values, (counts > 0).sum(1), draws)
    halves = {
        n: (Estimate(s[::2], c[::2]).mean, Estimate(s[1::2], c[1::2]).mean)
        for n, s, c in zip(names, sums, counts, strict=True)
    }
    return replace(found, counts={n: int(total) for n, total in zip(names, counts.sum(1), strict=True)}, halves=halves)


def _with_draws(name: str, names: list[str], values: list[float], n: Sequence[int], draws: np.ndarray) -> Scored:
    """`draws` is [B, C]."""
    ranked = np.where(np.isfinite(draws), sign(name) * draws, -np.inf)
    # Among equal checkpoints the latest wins, as in `chosen`.
    best = ranked.shape[1] - 1 - ranked[np.isfinite(ranked).any(1), ::-1].argmax(1)
    shares = np.bincount(best, minlength=len(names)) / max(1, len(best))
    # A single item has no interval: every resample gives the same value.
    spans = [ends(draws[:, i]) if n[i] > 1 else (math.nan, math.nan) for i in range(len(names))]
    intervals = [Interval(v, *spans[i], int(n[i])) for i, v in enumerate(values)]
    return Scored(name, dict(zip(names, intervals, strict=True)), dict(zip(names, shares.tolist(), strict=True)))


def _reward(
    name: str,
    checkpoints: Sequence[CheckpointEstimates],
    rewards: Mapping[int, float],
    window: tuple[float, float],
    seed: int,
) -> Scored:
    """Mean of a training metric over the steps in a window around each checkpoint's."""
    first, last = window
    around = [[r for step, r in rewards.items() if first <= step - c.step <= last] for c in checkpoints]
    drawn = [
        resampled_ratios(np.array([own]), np.ones((1, len(own))), seed=seed + place)
        if own else np.full((1, 1), np.nan) for place, own in enumerate(around)
    ]  # fmt: skip
    length = max(map(len, drawn))
    draws = np.concatenate([np.broadcast_to(d, (length, 1)) for d in drawn], axis=1)
    values = [float(np.mean(own)) if own else math.nan for own in around]
    return _with_draws(name, [c.name for c in checkpoints], values, [len(own) for own in around], draws)


def _last(checkpoints: Sequence[CheckpointEstimates]) -> Scored:
    values = {c.name: Interval(float(c.step), float(c.step), float(c.step), 1) for c in checkpoints}
    newest = max(reversed(checkpoints), key=lambda c: c.step).name
    return Scored("last", values, {c.name: float(c.name == newest) for c in checkpoints})


def refuse_unknown(by: str) -> None:
    """Raises UserError, before anything is measured, where there is no such criterion."""
    if by not in BETTER:
        raise UserError(f"--by {by}: there is no such criterion; choose from {', '.join(BETTER)}")


def _require_items(inside: np.ndarray, criterion_half: np.ndarray) -> None:
    """Raise UserError where a half has too few items for an interval."""
    for place, own in (("in", inside), ("out of", ~inside)):
        fewest = min((own & criterion_half).sum(), (own & ~criterion_half).sum())
        if own.any() and fewest < 2:
            raise UserError(
                f"{own.sum()} held-out items {place} domain are too few: give at least four, better hundreds"
            )


def _require(by: str, criteria: dict[str, Scored]) -> None:
    """Raise UserError where `by` is unknown, or could not be measured for this run."""
    able = [name for name, scored in criteria.items() if scored.chosen is not None]
    if by not in able:
        why = {
            **{name: f"the run has no {key} in metrics.jsonl" for name, key in METRICS.items()},
            "out_of_domain_accuracy": "the data has no other domain than those trained on",
            "critical_entropy": "no response holds a critical word; name others with --words",
            "entropy_following": "no response holds a critical word; name others with --words",
        }.get(by, "there is no such criterion")
        raise UserError(f"--by {by}: {why}; choose from {', '.join(able)}")


def _correlations(criteria: dict[str, Scored], targets: dict[str, Scored], seed: int) -> list[Correlation]:
    found = []
    for criterion in criteria.values():
        for target in targets.values():
            x, y = ([v.value for v in scored.values.values()] for scored in (criterion, target))
            both = (pearson(x, y, seed=seed), spearman(x, y, seed=seed))
            found.append(Correlation(criterion.name, target.name, *both))
    return found


@dataclass(frozen=True, slots=True)
class Regret:
    """What choosing by a criterion cost over several runs (seeds)."""

    criterion: str
    target: str
    regret: Interval
    """Mean over runs of the best checkpoint's target less the chosen one's, with Student's interval over runs."""
    less_than_last: Interval
    """Mean over runs of the chosen checkpoint's target less the last one's."""


def regret(per_run_tables: Sequence[dict[str, Any]], target: str = "out_of_domain") -> list[Regret]:
    """The regret of each criterion over runs, given as the content of their select.json; best criterion first.

    The best checkpoint is the best of noisy measurements, so that even a criterion that knew the truth would have a
    regret above 0; differences between criteria are not affected. A criterion that some runs lack is judged over the
    other runs. Raises UserError where no run has the target.
    """
    runs = [table for table in per_run_tables if target in table["targets"]]
    if not runs:
        raise UserError(f"no run has the target {target!r}; measure them on data with other domains")
    found = []
    for name in [name for name in BETTER if any(_choice(table, name) for table in runs)]:
        having = [table for table in runs if _choice(table, name)]
        scores = [{c: v["value"] for c, v in t["targets"][target]["values"].items()} for t in having]
        chosen = [s[_choice(table, name)] for table, s in zip(having, scores, strict=True)]
        last = [s[_choice(table, "last")] for table, s in zip(having, scores, strict=True)]
        lost = t_interval([max(s.values()) - c for s, c in zip(scores, chosen, strict=True)])
        found.append(Regret(name, target, lost, t_interval(np.subtract(chosen, last).tolist())))
    return sorted(found, key=lambda r: r.regret.value)


def _choice(table: dict[str, Any], criterion: str) -> Any:
    return table["criteria"].get(criterion, {}).get("chosen")


def _values(scored: Scored) -> dict[str, dict[str, Any]]:
    return {
        name: {
            **_flat("", v),
            "n": v.n,
            **({"count": scored.counts[name]} if scored.counts else {}),
            **({"halves": [finite_or_none(half) for half in scored.halves[name]]} if scored.halves else {}),
            "best_share": scored.best_share[name],
        }
        for name, v in scored.values.items()
    }


def _flat(name: str, interval: Interval) -> dict[str, float | None]:
    keys = (f"{name}", f"{name}_low", f"{name}_high") if name else ("value", "low", "high")
    numbers = (interval.value, interval.low, interval.high)
    return {key: finite_or_none(number) for key, number in zip(keys, numbers, strict=True)}
