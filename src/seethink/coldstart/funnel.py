"""What became of the questions, in numbers: the funnel, the reasons, and what the traces are like."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from seethink.coldstart.questions import Questions
from seethink.coldstart.select import SELECTED, Outcome
from seethink.core.types import Verdict
from seethink.data.quarantine import REASONS

WORDS = {
    "selected": "selected",
    "missing_column": "no question, or no gold answer",
    "empty_gold": "no gold answer",
    "duplicate": "asks what an earlier row asks",
    "near_duplicate": "the same with a copy of the picture",
    "contradiction": "asked twice with different answers",
    "benchmark_text": "words of a benchmark",
    "benchmark_image": "a picture of a benchmark",
    "not_asked": "not asked yet",
    "failed": "no answer came",
    "truncated": "cut off at the length limit",
    "empty": "no text",
    "refused": "refused",
    "bad_format": "not <think>…</think>answer",
    "not_graded": "could not be graded",
    "wrong_answer": "wrong answer",
    "perhaps_chance": "right too seldom for multiple choice",
    "too_easy": "too easy",
    "too_long": "too long",
    "too_short": "too short",
    "rambling": "repeats itself",
    "hallucinated": "says it cannot see the image",
    "language_mixed": "mixes scripts",
    "language_switched": "goes from one language to another",
    "surprising": "too surprising to the student",
    "not_scored": "not scored by the reward model yet",
    "unscorable": "too long for the reward model, or holds its template's token",
    "low_reward": "disliked by the reward model",
    "not_judged": "not judged yet",
    "rambling_judged": "rambles, says the judge",
    "incoherent": "incoherent, says the judge",
    "mixed_judged": "mixes languages, says the judge",
    "unsupported": "the reasoning does not lead to the answer, says the judge",
    "control_token": "holds a chat template's token or a control character",
    "over_quota": "over the domain's quota",
}
"""Reasons in words, in the order of the stages. Rows that cannot be read have the reasons of `data/quarantine.py`."""
UNANSWERED = 0.01
"""Share of failed or ungraded samples above which the command ends with 1."""


def words_of(reason: str) -> str:
    """A reason in words."""
    return WORDS.get(reason) or REASONS.get(reason) or reason.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Funnel:
    """Counts of questions, stage by stage: each is a part of the one before."""

    read: int
    asked: int
    """Good, unique and in no benchmark."""
    answered: int
    """With at least one whole trace."""
    right: int
    """With at least one trace whose answer is right."""
    selected: int
    traces: int
    """Selected."""
    validation: int
    """Selected questions that are held out."""

    def steps(self) -> list[tuple[str, int]]:
        return [
            ("read", self.read),
            ("asked", self.asked),
            ("answered", self.answered),
            ("with a right trace", self.right),
            ("selected", self.selected),
        ]


def funnel(questions: Questions, outcomes: Sequence[Outcome]) -> Funnel:
    selected = [outcome for outcome in outcomes if outcome.chosen]
    return Funnel(
        read=questions.read,
        asked=len(outcomes),
        answered=sum(outcome.done > 0 for outcome in outcomes),
        right=sum(outcome.right > 0 for outcome in outcomes),
        selected=len(selected),
        traces=sum(len(outcome.chosen) for outcome in selected),
        validation=sum(outcome.is_validation for outcome in selected),
    )


def first_reasons(questions: Questions, outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Questions by the first reason why they are not selected; the most frequent first."""
    counts = Counter(one.reason for one in questions.left_out)
    counts.update(outcome.reason for outcome in outcomes if outcome.reason != SELECTED)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def trace_reasons(outcomes: Sequence[Outcome]) -> list[tuple[str, int, int]]:
    """(reason, samples whose first reason it is, samples that it speaks against at all), the most frequent first."""
    all_reasons = [reasons for outcome in outcomes for reasons in outcome.against.values() if reasons]
    first = Counter(reasons[0] for reasons in all_reasons)
    every = Counter(reason for reasons in all_reasons for reason in reasons)
    return sorted(((r, first[r], every[r]) for r in every), key=lambda row: (-row[2], row[0]))


@dataclass(frozen=True, slots=True)
class Part:
    """The questions of one domain or type."""

    name: str
    asked: int
    right: int
    selected: int
    pass_1: float | None
    """Share of questions whose first sample is right, of those whose first sample is graded."""
    pass_n: float | None
    """Share of questions with a right sample, of those with a graded one."""
    tokens: float | None
    """Median length of the selected traces."""


def parts(outcomes: Sequence[Outcome]) -> list[Part]:
    """All questions, then each domain and each type of question."""
    domains = sorted({outcome.question.domain for outcome in outcomes})
    kinds = sorted({outcome.question.kind for outcome in outcomes})
    found = [_part("all", outcomes)]
    if len(domains) > 1:
        found += [_part(name, [o for o in outcomes if o.question.domain == name]) for name in domains]
    if len(kinds) > 1:
        found += [_part(name, [o for o in outcomes if o.question.kind == name]) for name in kinds]
    return found


def _part(name: str, outcomes: Sequence[Outcome]) -> Part:
    firsts = [outcome.traces[0].verdict for outcome in outcomes if outcome.traces and _is_graded(outcome, 0)]
    graded = [o for o in outcomes if any(_is_graded(o, place) for place in range(len(o.traces)))]
    return Part(
        name=name,
        asked=len(outcomes),
        right=sum(outcome.right > 0 for outcome in outcomes),
        selected=sum(bool(outcome.chosen) for outcome in outcomes),
        pass_1=_share(verdict is Verdict.CORRECT for verdict in firsts),
        pass_n=_share(outcome.right > 0 for outcome in graded),
        tokens=_median(lengths(outcomes, chosen=True)),
    )


def _is_graded(outcome: Outcome, place: int) -> bool:
    """Whether a sample has come to an end that is the teacher's own: a verdict, or no trace at all."""
    trace = outcome.traces[place]
    return trace.verdict not in (None, Verdict.ERROR) if trace.state == "done" else trace.state != "failed"


def lengths(outcomes: Iterable[Outcome], *, chosen: bool) -> list[int]:
    """Tokens of every whole trace, or of those selected."""
    return [
        trace.scores.tokens
        for outcome in outcomes
        for trace in outcome.traces
        if trace.scores is not None and (not chosen or trace.key in outcome.chosen)
    ]


def unanswered(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """(samples that failed or could not be graded, samples in all)."""
    traces = [trace for outcome in outcomes for trace in outcome.traces]
    bad = sum(
        trace.state == "failed"
        or (trace.state == "done" and trace.verdict in (None, Verdict.ERROR))
        or not {"not_judged", "not_scored"}.isdisjoint(outcome.against[trace.key])
        for outcome in outcomes
        for trace in outcome.traces
    )
    return bad, len(traces)


def by_decider(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Right traces by who called them so."""
    counts = Counter(t.decided for o in outcomes for t in o.traces if t.verdict is Verdict.CORRECT)
    return dict(sorted(counts.items()))


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _median(values: Sequence[int]) -> float | None:
    return float(statistics.median(values)) if values else None


def as_table(questions: Questions, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The counts as JSON values, for `funnel.json`."""
    return {
        "questions": dict(funnel(questions, outcomes).steps()),
        "traces": funnel(questions, outcomes).traces,
        "validation_questions": funnel(questions, outcomes).validation,
        "first_reasons": first_reasons(questions, outcomes),
        "samples": [dict(zip(("reason", "first", "any"), row, strict=True)) for row in trace_reasons(outcomes)],
        "right_by": by_decider(outcomes),
    }
