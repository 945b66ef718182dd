"""Measure a verifier on labelled answers before a run trusts it: `seethink verifier check CASES.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from seethink.core.types import Verdict
from seethink.rewards.verifier.verifier import Verifier, VerifierConfig, VerifyItem

_MOST_REASKED = 100


class Case(BaseModel):
    """One line of the file; other keys are ignored."""

    model_config = ConfigDict(frozen=True)

    id: str
    gold: str
    prediction: str
    expected: bool
    """Whether the prediction is right."""
    question: str = ""
    answer_type: str | None = None
    choices: list[str] | None = None
    prediction_kind: str = "response"
    """"bare" where the prediction is the short answer itself; else it is extracted as in a run."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of n cases. Example: `Rate(3, 100)` prints as `3.0% ± 1.7 (n=100)`."""

    count: int
    n: int

    @property
    def value(self) -> float:
        return self.count / self.n if self.n else math.nan

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.value * (1 - self.value) / self.n) if self.n else math.nan

    def __str__(self) -> str:
        if not self.n:
            return "no cases"
        return f"{100 * self.value:.1f}% ± {100 * self.standard_error:.1f} (n={self.n})"


@dataclass(frozen=True, slots=True)
class VerifierSummary:
    """How far a verifier that judges every case alone can be trusted."""

    model: str
    accuracy: Rate
    false_positives: Rate
    """Share of the wrong answers that it called equivalent: what a policy would learn to exploit."""
    false_negatives: Rate
    """Share of the right answers that it called different."""
    no_verdict: Rate
    """Share of all cases without a readable verdict. These cases are in no other rate."""
    flips: Rate
    """Share of the verdicts requested twice that changed."""
    canaries_hit: tuple[str, ...]
    """Attacks that it called equivalent. A run would stop at the first."""
    canaries_unanswered: int
    wrong_ids: tuple[str, ...]
    """Ids of the cases judged wrongly, in the file's order."""
    latency_median_s: float

    def __str__(self) -> str:
        rows = {
            "accuracy": self.accuracy,
            "false positives": self.false_positives,
            "false negatives": self.false_negatives,
            "no verdict": self.no_verdict,
            "flips when re-asked": self.flips,
            "canaries hit": ", ".join(map(repr, self.canaries_hit)) or "none",
            "canaries unanswered": self.canaries_unanswered,
            "median latency": f"{self.latency_median_s:.2f} s",
        }
        return "\n".join([f"verifier {self.model}", *(f"  {name:<20} {row}" for name, row in rows.items())])


def check_verifier(config: VerifierConfig, cases: Path) -> VerifierSummary:
    """Ask about every labelled case, about some of them again for the flips, and about every canary.

    It neither reads nor writes a run's cache and does not wait for a server that is down. Raises ValueError for a
    line that is no case.
    """
    judged = list(_read_cases(cases))
    items = [VerifyItem(case.question, case.gold, _short_answer(case)) for case in judged]
    fresh = config.model_copy(update={"on_down": "rule_only", "cache": None, "canary_every": 0, "recheck_share": 0.0})
    with Verifier(fresh) as verifier:
        grades = verifier.verify(items)
        latency = verifier.metrics().get("verifier/latency_median_s", math.nan)
        verdicts = [None if grade is None else _as_bool(grade.verdict) for grade in grades]
        firsts = {item: said for item, said in zip(items, verdicts, strict=True) if said is not None}
        flips = _flips(verifier, dict(list(firsts.items())[:_MOST_REASKED]))
        canaries = verifier.ask_canaries()
    right = [(case, said == case.expected) for case, said in zip(judged, verdicts, strict=True) if said is not None]
    return VerifierSummary(
        model=config.model,
        accuracy=_share([ok for _, ok in right]),
        false_positives=_share([not ok for case, ok in right if not case.expected]),
        false_negatives=_share([not ok for case, ok in right if case.expected]),
        no_verdict=_share([said is None for said in verdicts]),
        flips=flips,
        canaries_hit=tuple(item.extracted for item, said in canaries.items() if said),
        canaries_unanswered=sum(said is None for said in canaries.values()),
        wrong_ids=tuple(case.id for case, ok in right if not ok),
        latency_median_s=latency,
    )


def _read_cases(path: Path) -> Iterator[Case]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield Case.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "line"
                raise ValueError(f"{path}:{number}: {place}: {first['msg']}") from None


def _short_answer(case: Case) -> str:
    """What the rule grader would hand to the verifier."""
    if case.prediction_kind == "bare":
        return case.prediction
    from seethink.rewards.grader import grade  # the rule grader is needed for whole responses only

    return grade(case.prediction, case.gold, case.answer_type, case.choices).extracted or ""


def _as_bool(verdict: Verdict) -> bool | None:
    return None if verdict is Verdict.ERROR else verdict is Verdict.CORRECT


def _share(flags: list[bool]) -> Rate:
    return Rate(sum(flags), len(flags))


def _flips(verifier: Verifier, firsts: dict[VerifyItem, bool]) -> Rate:
    seconds = verifier.reask(list(firsts))
    return _share([said != firsts[item] for item, said in seconds.items() if said is not None])
