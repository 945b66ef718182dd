"""Counts between two readings of the verifier's metrics."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from seethink.core.types import Grade, Verdict
from seethink.endpoint.client import Traffic


@dataclass
class VerifierCounts:
    """What happened since the last reading. Counts are of the items given to `verify`, unless they say otherwise."""

    items: int = 0
    gated: int = 0
    asked: int = 0
    """Distinct items that needed the server."""
    cached: int = 0
    """Items answered from the cache, or by the same request as an equal item of their batch."""
    yes: int = 0
    no: int = 0
    errors: int = 0
    rule_only: int = 0
    canaries: int = 0
    rechecked: int = 0
    flipped: int = 0

    def add(self, grade: Grade | None, count: int) -> None:
        """What became of `count` equal items that passed the gate."""
        if grade is None:
            self.rule_only += count
        elif grade.verdict is Verdict.ERROR:
            self.errors += count
        elif grade.verdict is Verdict.CORRECT:
            self.yes += count
        else:
            self.no += count

    def metrics(self, traffic: Traffic) -> dict[str, float]:
        """Metric keys to values. A rate appears only where there is something to divide by."""
        values: dict[str, float] = {
            "verifier/items": self.items,
            "verifier/retries": traffic.retries,
            "verifier/rate_limited": traffic.rate_limited,
            "verifier/canaries": self.canaries,
            "verifier/rechecked": self.rechecked,
        }
        judged = self.yes + self.no
        rates = {
            "verifier/asked_share": (self.asked, self.items),
            "verifier/cached_share": (self.cached, self.items),
            "verifier/gated_share": (self.gated, self.items),
            "verifier/error_share": (self.errors, self.items),
            "verifier/rule_only_share": (self.rule_only, self.items),
            "verifier/yes_rate": (self.yes, judged),
            "verifier/flip_rate": (self.flipped, self.rechecked),
        }
        values |= {key: part / whole for key, (part, whole) in rates.items() if whole}
        if traffic.latencies_s:
            ordered = sorted(traffic.latencies_s)
            values["verifier/latency_median_s"] = statistics.median(ordered)
            values["verifier/latency_p95_s"] = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return values
