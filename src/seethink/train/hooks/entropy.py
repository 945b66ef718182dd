"""Entropy statistics of every step: metrics, and one line of entropy.jsonl."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from seethink.config import LogConfig, Stage
from seethink.entropy.meter import GroupStats, Tokens, group_stats, tail_threshold
from seethink.runs.metrics import StepLines
from seethink.train.hook import Hook
from seethink.train.step import StepResult

FILE = "entropy.jsonl"


class EntropyLog(Hook):
    """Measures each step's tokens; the first step sets the threshold of the tail."""

    def __init__(
        self, folder: Path, stage: Stage, log: LogConfig, vocabulary: int, *, step: int, threshold: float | None
    ) -> None:
        """`threshold` in nats is what the first step of a resumed run has set."""
        self._stage, self._log, self._vocabulary, self._threshold = stage, log, vocabulary, threshold
        self._lines = StepLines(folder / FILE, step)

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        return {} if result.tokens is None else self._measure(step, result.tokens)

    def _measure(self, step: int, tokens: Tokens) -> dict[str, float]:
        if self._threshold is None:
            self._threshold = tail_threshold(self._log.entropy_threshold, self._vocabulary, tokens.entropies)
        groups = group_stats(tokens, self._threshold)
        self._lines.write(
            {
                "step": step,
                "stage": self._stage,
                "threshold": self._threshold,
                "words": list(self._log.critical_words),
                "groups": {name: group.as_json() for name, group in groups.items()},
            }
        )
        return _metrics(groups, tokens.critical_mass().mean)

    def state(self) -> dict[str, Any]:
        return {"entropy_threshold": self._threshold}

    def sync(self) -> None:
        self._lines.sync()

    def close(self) -> None:
        self._lines.close()


def _metrics(groups: dict[str, GroupStats], critical_mass: float) -> dict[str, float]:
    everything = groups["all"]
    values = {
        "entropy/mean": everything.sketch.mean,
        **{f"entropy/p{round(100 * share)}": everything.sketch.quantile(share) for share in (0.5, 0.9, 0.99)},
        "entropy/tail_share": everything.tail.mean,
        **{f"entropy/{name}": groups[name].sketch.mean for name in ("critical", "following", "correct", "wrong")},
        "entropy/critical_count": float(groups["critical"].sketch.count),
        "entropy/critical_mass": critical_mass,
    }
    return {key: value for key, value in values.items() if math.isfinite(value)}
