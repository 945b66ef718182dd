"""A rewarder that grades on rank 0 for all: one verifier, one cache of verdicts, one rate limit."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.core.types import Grade, Sample
from seethink.dist.agreement import from_main
from seethink.rewards.rewarder import Rewarder


class MainRewarder(Rewarder):
    """Every rank must call `grade` and `metrics` at the same places; rank 0 does the work."""

    def grade(self, pairs: Sequence[tuple[Sample, str]]) -> list[Grade]:
        return from_main(lambda: super(MainRewarder, self).grade(pairs))

    def metrics(self) -> dict[str, float]:
        return from_main(lambda: super(MainRewarder, self).metrics())
