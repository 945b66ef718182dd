"""The blindness guard's statistics, its four checks, and what it says of them. No model runs here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seethink.core.types import Completion

KINDS = ("true", "blank", "shuffled")
MOVED = 1e-6
"""Log-probs that differ by less, between a picture and a blank one of its size, did not see the pixels."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest mean |log-prob of the decoder - of the trainer|, by compute dtype."""
STANDARD_ERRORS = 2.0
MIN_JUDGED = 16
"""Fewer pairs say too little to call a model blind."""
MEASURED = ("samples", "trainer_sensitivity", "decoder_sensitivity", "path_mismatch")


@dataclass(frozen=True, slots=True)
class Paired:
    """A paired comparison over the samples where both sides were measured."""

    gap: float
    """Mean of the differences."""
    t: float
    """The gap in standard errors; infinite where all differences are equal and not 0."""
    n: int


def paired(ours: np.ndarray, theirs: np.ndarray) -> Paired:
    """Mean and t statistic of ours - theirs; NaN on either side leaves the sample out."""
    difference = ours - theirs
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if n < 2:
        return Paired(math.nan, math.nan, n)
    gap = float(difference.mean())
    error = float(difference.std(ddof=1)) / math.sqrt(n)
    if error > 0:
        return Paired(gap, gap / error, n)
    return Paired(gap, math.copysign(math.inf, gap) if gap else 0.0, n)


@dataclass(slots=True)
class View:
    """What the policy made of one kind of picture; NaN, empty or None where a sample has no such picture."""

    gold: list[np.ndarray] = field(default_factory=list)
    """S times [T]: log-probs of the gold answer's tokens, by the trainer."""
    completions: list[Completion | None] = field(default_factory=list)
    """[S] decoded greedily."""
    correct: list[float] = field(default_factory=list)
    """[S] 1 right, 0 wrong, NaN not graded."""

    def measure(self, name: str) -> np.ndarray:
        """[S] `logprob` (mean per token of the gold answer) or `accuracy`."""
        if name == "accuracy":
            return np.array(self.correct)
        return np.array([float(row.mean()) if len(row) else math.nan for row in self.gold])


@dataclass(slots=True)
class Findings:
    """One look: the numbers, and which checks failed."""

    metrics: dict[str, float]
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if not self.failed:
            return "too few samples" if any("too few" in note for note in self.notes) else "sees"
        return "blind" if self.failed == ["image"] else "broken"


def judge(views: dict[str, View], mismatch: float, dtype: str) -> Findings:
    """The four checks on what was measured."""
    true, blank = views["true"], views["blank"]
    metrics = {
        "samples": float(len(true.gold)),
        "trainer_sensitivity": _trainer_sensitivity(true, blank),
        "decoder_sensitivity": _decoder_sensitivity(true, blank),
        "path_mismatch": mismatch,
    }
    gaps: dict[str, list[Paired]] = {}
    for name in ("logprob", "accuracy"):
        measured = {kind: view.measure(name) for kind, view in views.items()}
        metrics |= {f"{name}_{kind}": _mean(values) for kind, values in measured.items()}
        gaps[name] = [paired(measured["true"], measured[kind]) for kind in KINDS[1:]]
        for kind, gap in zip(KINDS[1:], gaps[name], strict=True):
            metrics |= {f"{name}_gap_{kind}": gap.gap, f"{name}_t_{kind}": gap.t}
    found = Findings({f"blindness/{key}": value for key, value in metrics.items() if not math.isnan(value)})
    # Not `<`: NaN, too, is no sign of life.
    found.failed += [path for path in ("trainer", "decoder") if not metrics[f"{path}_sensitivity"] >= MOVED]
    found.failed += ["path"] if not mismatch <= TOLERANCE[dtype] else []
    _judge_image(gaps, found)
    return found


def _judge_image(gaps: dict[str, list[Paired]], found: Findings) -> None:
    """Check 4. Samples whose picture no other differs from are compared with the blank one alone."""
    blank, shuffled = gaps["logprob"]
    if blank.n < MIN_JUDGED:
        found.notes.append(f"too few samples to judge whether the image matters: {blank.n}, at least {MIN_JUDGED}")
        return
    rivals = 2 if shuffled.n >= MIN_JUDGED else 1
    if rivals == 1:
        found.notes.append("the held-out pictures are too alike to swap: compared with the blank one alone")
    if not any(all(one.t > STANDARD_ERRORS for one in pair[:rivals]) for pair in gaps.values()):
        found.failed.append("image")


def _trainer_sensitivity(true: View, blank: View) -> float:
    """The most that any gold token's log-prob moved. Both views are batched alike, so without pixels it is 0."""
    return _largest([float(x) for a, b in zip(true.gold, blank.gold, strict=True) for x in np.abs(a - b)])


def _decoder_sensitivity(true: View, blank: View) -> float:
    """The most that a log-prob or entropy moved, up to the first token that was chosen differently."""
    moved = [
        _divergence(a, b)
        for a, b in zip(true.completions, blank.completions, strict=True)
        if a is not None and b is not None
    ]
    return _largest(moved)


def _divergence(a: Completion, b: Completion) -> float:
    pairs = list(zip(a.token_ids, b.token_ids, strict=False))
    same = next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs) - 1) + 1
    rows = [(a.generator_logprobs, b.generator_logprobs), (a.entropies, b.entropies)]
    return max(abs(x - y) for ours, theirs in rows for x, y in zip(ours[:same], theirs[:same], strict=False))


def _largest(values: list[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def summary(step: int, found: Findings, dtype: str) -> str:
    """What was found, on which numbers, and what to do."""
    m = {name: found.metrics.get(f"blindness/{name}", math.nan) for name in MEASURED}
    lost = f"no log-prob moved by {MOVED:g} when every picture was replaced by a blank one (at most {{:.1g}})"
    reasons = {
        "trainer": f"pixels do not reach the trainer: {lost.format(m['trainer_sensitivity'])}. Look at what carries "
        "mm_kwargs into Policy.outputs, at the vision encoder and at the connector",
        "decoder": f"pixels do not reach the decoder: {lost.format(m['decoder_sensitivity'])}. Look at the "
        "generator's prefill, at the vision encoder and at the connector",
        "path": "decoder and trainer do not see the same: log-probs of decoded tokens differ by "
        f"{m['path_mismatch']:.2g} on average, more than {TOLERANCE[dtype]:g} ({dtype}). Images are lost or out of "
        "order in one of the two, or the weights differ",
        "image": "the image does not matter: neither gold log-prob nor greedy accuracy is better with the true picture "
        f"than with a blank and with another one by {STANDARD_ERRORS:g} standard errors. Check that each row of the "
        "data has its own picture and that questions need it; blindness.action=warn goes on regardless, for a model "
        "that has yet to learn to see",
    }
    said = [f"{name} check failed: {reasons[name]}" for name in found.failed] or [found.verdict]
    numbers = f"{m['samples']:.0f} held-out samples: {_numbers(found.metrics)}"
    return f"blindness guard, step {step}: {'. '.join([*said, *found.notes])} ({numbers})"


def _numbers(metrics: dict[str, float]) -> str:
    texts = []
    for name, word in (("logprob", "gold log-prob"), ("accuracy", "greedy accuracy")):
        shown = []
        for kind in KINDS:
            value, t = metrics.get(f"blindness/{name}_{kind}"), metrics.get(f"blindness/{name}_t_{kind}")
            if value is not None:
                shown.append(f"{kind} {value:.3f}" + ("" if t is None else f" (t {t:+.1f})"))
        if shown:
            texts.append(f"{word} {', '.join(shown)}")
    return "; ".join(texts)
