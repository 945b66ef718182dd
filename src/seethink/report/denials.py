"""Responses that deny seeing the image although there is one (paper 6.4), one row per source of rollouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from seethink.eval.hallucination import CheckedResponse, Finding, compare_denials
from seethink.report.rollouts import Rollouts

PLACES = ("before", "inside", "after", "elsewhere")


@dataclass(frozen=True, slots=True)
class DenialRow:
    """One source of rollouts. Accuracies are (share, standard error or None); None without a graded response."""

    source: str
    n: int
    count: int
    with_denial: tuple[float, float | None] | None
    without: tuple[float, float | None] | None
    position: float | None
    """Where in the response the first denial begins, 0 to 1, on average."""
    entropy: list[float | None]
    """Mean nats per token of the responses with a denial, in each of `PLACES` around it."""


def denial_rows(rollouts: Rollouts) -> list[DenialRow]:
    """One row per source whose responses were searched; empty where no source has a denial."""
    sources: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for place, group in enumerate(rollouts.groups):
        searched = [(str(place), one) for one in group["completions"] if one["hallucinated"] is not None]
        if searched:
            sources.setdefault(group["source"], []).extend(searched)
    if not any(one["hallucinated"] for searched in sources.values() for _, one in searched):
        return []
    return [
        _row(source, searched, compare_denials([_checked(*pair) for pair in searched])[0])
        for source, searched in sources.items()
    ]


def _checked(item: str, one: dict[str, Any]) -> CheckedResponse:
    ends = list(accumulate(map(len, one["tokens"])))
    starts = [0, *ends]
    spans = [(starts[first], ends[last]) if last >= first else (0, 0) for first, last in one["hallucinated"]]
    graded = one["verdict"] != "error"
    return CheckedResponse(
        item=item,
        text="".join(one["tokens"]),
        spans=spans,
        correct=float(one["verdict"] == "correct") if graded else math.nan,
        tokens=one["tokens"],
        entropies=[entropy / 100 for entropy in one["entropies"] or ()],
    )


def _row(source: str, searched: list[tuple[str, dict[str, Any]]], found: Finding) -> DenialRow:
    means = [found.entropy[place].value if place in found.entropy else math.nan for place in PLACES]
    return DenialRow(
        source=source,
        n=len(searched),
        count=sum(bool(one["hallucinated"]) for _, one in searched),
        with_denial=_known(found.accuracy_with.value, found.accuracy_with.se),
        without=_known(found.accuracy_without.value, found.accuracy_without.se),
        position=None if math.isnan(found.position.value) else found.position.value,
        entropy=[None if math.isnan(mean) else mean for mean in means],
    )


def _known(value: float, se: float) -> tuple[float, float | None] | None:
    return None if math.isnan(value) else (value, None if math.isnan(se) else se)
