"""Responses that say they cannot see the image, though there is one (paper 6.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seethink.analysis.statistics import standard_error
from seethink.report.rollouts import Rollouts

Judged = Sequence[Sequence[float]]
"""0 or 1 of each completion, by prompt group."""


@dataclass(frozen=True, slots=True)
class DenialRow:
    """One source of rollouts. Accuracies are (share, standard error or None); None where there is nothing."""

    source: str
    n: int
    count: int
    with_denial: tuple[float, float | None] | None
    without: tuple[float, float | None] | None
    place: float | None
    """Where in the response a denial begins, 0 to 1, on average."""
    entropy_within: float | None
    entropy_elsewhere: float | None


def denial_rows(rollouts: Rollouts) -> list[DenialRow]:
    """A row for each source in which somebody looked; empty where no denial was found at all."""
    rows = []
    for source in dict.fromkeys(group["source"] for group in rollouts.groups):
        groups = [group["completions"] for group in rollouts.groups if group["source"] == source]
        looked = [[one for one in ones if one["hallucinated"] is not None] for ones in groups]
        if any(looked):
            rows.append(_row(source, looked))
    return rows if any(row.count for row in rows) else []


def clustered_mean(groups: Judged) -> tuple[float, float | None] | None:
    """Mean and its standard error with the completions of one prompt as a cluster; no error for one cluster."""
    sums = np.array([sum(group) for group in groups if group], dtype=float)
    counts = np.array([len(group) for group in groups if group])
    if not len(counts):
        return None
    mean = float(sums.sum() / counts.sum())
    error = standard_error((sums - mean * counts) / counts.sum(), len(counts))
    return mean, error if math.isfinite(error) else None


def _row(source: str, groups: list[list[dict[str, Any]]]) -> DenialRow:
    def accuracy(denied: bool) -> tuple[float, float | None] | None:
        chosen = ([one for one in ones if bool(one["hallucinated"]) == denied] for ones in groups)
        return clustered_mean([[float(one["verdict"] == "correct") for one in ones] for ones in chosen])

    found = [one for ones in groups for one in ones if one["hallucinated"]]
    spans = [(one, first, last) for one in found for first, last in one["hallucinated"] if last >= first]
    inside = [entropy for one, first, last in spans for entropy in (one["entropies"] or [])[first : last + 1]]
    whole = [entropy for ones in groups for one in ones for entropy in one["entropies"] or ()]
    return DenialRow(
        source=source,
        n=sum(map(len, groups)),
        count=len(found),
        with_denial=accuracy(True),
        without=accuracy(False),
        place=_mean([first / len(one["tokens"]) for one, first, _ in spans]),
        entropy_within=_mean([value / 100 for value in inside]),
        entropy_elsewhere=(sum(whole) - sum(inside)) / 100 / (len(whole) - len(inside))
        if len(whole) > len(inside)
        else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
