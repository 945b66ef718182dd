"""Watchdogs: a training run that goes wrong, told from its metrics alone while it can still be stopped.

One row of WATCHDOGS is one watchdog: a metric, a rule, a threshold. A rule compares the median of the last few values
with what the same run had before, so that one odd step is no alarm, and asks that the change be beyond the metric's own
noise. Nothing is judged during the warm-up. A watchdog raises one alarm per
episode of trouble: again only after its value has come half-way back.

A watchdog's history is plain JSON and all the state there is: saved and restored, and fed with the same metrics, it
raises its alarms at the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

SMOOTH = 5
"""Values whose median is judged."""
WARM_UP = 10
"""Values before the first judgement; their median is the baseline."""
WINDOW = 50
"""Values kept: what "before" means for a spike and for a growing length."""
NOISE = 6.0
"""Standard errors, of the metric's own noise, that a change must exceed: the best of many values is a lucky one."""
CALM = 0.5
"""Trouble ends where the value is less than so far on its way to the threshold."""
SIGHT = "blindness/t"
"""Standard errors by which the true picture beats a blank and another one, in log-prob or accuracy (`sight`)."""


@dataclass(slots=True)
class History:
    """What a watchdog remembers of its metric."""

    values: list[float] = field(default_factory=list)
    """The newest WINDOW finite values."""
    first: list[float] = field(default_factory=list)
    """Those of the warm-up."""
    best: float | None = None
    """The highest smoothed value."""
    least: float | None = None
    """The lowest."""
    troubled: bool = False
    """Between an alarm and the end of its trouble."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule makes of a history whose newest value is in it."""

    value: float
    """In the threshold's unit."""
    way: float
    """How far the value is on its way to the threshold: 0 as before, 1 at it."""
    change: float = math.inf
    """In the metric's unit, to be compared with its noise; infinite where that does not matter."""


@dataclass(frozen=True, slots=True)
class Alarm:
    name: str
    value: float
    threshold: float
    message: str


Rule = Callable[[History, float, float], Reading]
"""(history, smoothed value now, threshold) -> reading."""


def falls(history: History, now: float, share: float) -> Reading:
    """Below `share` of the best."""
    return _shrinks(now, history.best or now, share)


def shrinks(history: History, now: float, share: float) -> Reading:
    """Below `share` of the baseline."""
    return _shrinks(now, median(history.first), share)


def rises(history: History, now: float, times: float) -> Reading:
    """Above so many times the lowest."""
    return _grows(now, history.least or now, times)


def explodes(history: History, now: float, times: float) -> Reading:
    """Above so many times the median of the window's older half: slow growth is no explosion."""
    return _grows(now, median(history.values[: len(history.values) // 2]), times)


def gains(history: History, now: float, amount: float) -> Reading:
    """Above the baseline by `amount`."""
    more = now - median(history.first)
    return Reading(more, more / amount, more)


def exceeds(history: History, now: float, limit: float) -> Reading:
    """Above the limit, whatever it was before."""
    return Reading(now, now / limit)


def drops_below(history: History, now: float, limit: float) -> Reading:
    return Reading(now, 2 - now / limit)


def spikes(history: History, now: float, deviations: float) -> Reading:
    """Above the median of the window by so many deviations of the logarithm, of at least a tenth each."""
    logs = [math.log(value) for value in history.values if value > 0]
    if now <= 0 or len(logs) < 2:
        return Reading(0.0, 0.0)
    middle = median(logs)
    deviation = max(0.1, _deviation(logs))
    score = (math.log(now) - middle) / deviation
    return Reading(score, score / deviations)


def _shrinks(now: float, before: float, share: float) -> Reading:
    left = now / before if before > 0 else 1.0
    return Reading(left, (1 - left) / (1 - share), before - now)


def _grows(now: float, before: float, times: float) -> Reading:
    grown = now / before if before > 0 else 1.0
    return Reading(grown, (grown - 1) / (times - 1), now - before)


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation, of which 1.4826 makes one for normal values."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def _noise(values: Sequence[float], smooth: int) -> float:
    """Standard error of the median of `smooth` values, from steps between neighbours, so that a trend is no noise."""
    steps = [b - a for a, b in pairwise(values)]
    # A step has the variance of two values; a median is 1.25 times as uncertain as a mean.
    return 1.25 * _deviation(steps) / math.sqrt(2 * smooth) if len(steps) > 2 else 0.0


@dataclass(frozen=True, slots=True)
class Watchdog:
    """One row of the table."""

    name: str
    metric: str
    rule: Rule
    threshold: float
    says: str
    """What `{value}` and `{threshold}` mean, in a sentence's end."""
    advice: str
    smooth: int = SMOOTH
    warm_up: int = WARM_UP
    stages: tuple[str, ...] = ("grpo", "ppo")

    def see(self, history: History, value: float, threshold: float | None = None) -> Alarm | None:
        """Add a step's value to the history; an alarm where trouble begins. NaN and infinity are no values."""
        if not math.isfinite(value):
            return None
        history.values = [*history.values, value][-WINDOW:]
        judged = len(history.first) >= self.warm_up
        if not judged:
            history.first.append(value)
        if len(history.values) < self.smooth:
            return None
        now = median(history.values[-self.smooth :])
        alarm = self._judge(history, now, self.threshold if threshold is None else threshold) if judged else None
        history.best = now if history.best is None else max(history.best, now)
        history.least = now if history.least is None else min(history.least, now)
        return alarm

    def _judge(self, history: History, now: float, limit: float) -> Alarm | None:
        reading = self.rule(history, now, limit)
        if history.troubled:
            history.troubled = reading.way >= CALM
            return None
        history.troubled = reading.way > 1 and reading.change > NOISE * _noise(history.values, self.smooth)
        if not history.troubled:
            return None
        said = self.says.format(value=reading.value, threshold=limit)
        return Alarm(self.name, reading.value, limit, f"{self.metric} {said}. {self.advice}")


WATCHDOGS = (
    Watchdog(
        "reward_collapse", "reward/mean", falls, 0.7, "has fallen to {value:.0%} of its best (limit {threshold:.0%})",
        "Go back to a checkpoint before the fall, with a lower optim.lr or more completions per step",
    ),
    Watchdog(
        "entropy_collapse", "entropy/mean", shrinks, 0.2, "is {value:.0%} of where it began (limit {threshold:.0%})",
        "The policy has stopped trying: lower optim.lr, or raise rollout.temperature or algorithm.clip_high a little",
    ),
    Watchdog(
        "entropy_surge", "entropy/mean", rises, 2.0, "is {value:.1f} times its lowest (limit {threshold:g})",
        "The policy dissolves: lower optim.lr, or set algorithm.clip_high back to clip_low",
    ),
    Watchdog(
        "grad_norm", "optim/grad_norm", spikes, 6.0, "is {value:.1f} deviations above its window (limit {threshold:g})",
        "Look at the rollouts of these steps; lower optim.lr or optim.max_grad_norm", smooth=3,
        stages=("sft", "grpo", "ppo"),
    ),
    Watchdog(
        "repetition", "response/repetition", gains, 0.2, "has risen by {value:.2f} (limit {threshold:g})",
        "The responses loop: read them; lower optim.lr or raise rollout.temperature",
    ),
    Watchdog(
        "compression", "response/compression", rises, 1.4, "is {value:.2f} times its lowest (limit {threshold:g})",
        "The responses say little in many words: read them; lower optim.lr",
    ),
    Watchdog(
        "length_explosion", "response/length_mean", explodes, 1.5,
        "is {value:.1f} times what it was a window ago (limit {threshold:g})",
        "Read the longest responses: the reward may pay for length",
    ),
    Watchdog(
        "truncation", "response/truncated_share", exceeds, 0.3, "is {value:.0%} (limit {threshold:.0%})",
        "Raise rollout.max_new_tokens, or add a length_schedule: a truncated response has no answer",
    ),
    Watchdog(
        "format_loss", "reward/format", falls, 0.8, "has fallen to {value:.0%} of its best (limit {threshold:.0%})",
        "Raise reward.format_weight, or start from a cold start that has learned the form",
    ),
    Watchdog(
        "language_mixing", "response/mixed_script_share", gains, 0.1,
        "has risen by {value:.0%} (limit {threshold:.0%})",
        "Filter the cold start (sft.latin_only), or reward the question's language",
    ),
    Watchdog(
        "blindness", SIGHT, drops_below, 2.0, "is {value:.1f} standard errors (limit {threshold:g})",
        "The image no longer matters: check that the reward cannot be had without looking", smooth=3, warm_up=0,
        stages=("sft", "grpo", "ppo"),
    ),
    Watchdog(
        "mismatch", "mismatch_kl/mean", exceeds, 0.01, "is {value:.2g} nats (limit {threshold:g})",
        "The generator samples from another distribution than the trainer's: check its weights, dtype, temperature and "
        "log-probs, or set algorithm.mismatch_correction", smooth=3, warm_up=0,
    ),
)  # fmt: skip
NAMES = tuple(dog.name for dog in WATCHDOGS)


def sight(metrics: Mapping[str, float]) -> float:
    """The guard's margin: of log-prob and accuracy the better, against the blank or the other picture the worse; NaN
    where it did not look."""
    margins = []
    for name in ("logprob", "accuracy"):
        found = [metrics.get(f"blindness/{name}_t_{kind}", math.nan) for kind in ("blank", "shuffled")]
        known = [value for value in found if not math.isnan(value)]
        margins += [min(known)] if known else []
    return max(margins, default=math.nan)


class Pack:
    """The watchdogs of a stage. `thresholds` replace defaults, by name; `state` is that of an earlier pack."""

    def __init__(
        self, stage: str, *, thresholds: Mapping[str, float] | None = None, state: Mapping[str, Any] | None = None
    ) -> None:
        self._thresholds = thresholds or {}
        self._dogs = [dog for dog in WATCHDOGS if stage in dog.stages]
        state = state or {}
        self._histories = {dog.name: History(**state.get(dog.name, {})) for dog in self._dogs}

    def see(self, metrics: Mapping[str, float]) -> list[Alarm]:
        """The alarms of a step, from its metrics."""
        values = {**metrics, SIGHT: sight(metrics)}
        alarms = [
            dog.see(self._histories[dog.name], values.get(dog.metric, math.nan), self._thresholds.get(dog.name))
            for dog in self._dogs
        ]
        return [alarm for alarm in alarms if alarm is not None]

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """All that the next step depends on."""
        return {
            name: {"values": [*h.values], "first": [*h.first], "best": h.best, "least": h.least, "troubled": h.troubled}
            for name, h in self._histories.items()
        }
