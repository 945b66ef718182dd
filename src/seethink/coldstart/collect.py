"""Stages 2 to 4 run: traces are asked for, graded and scored, from wherever the files are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from seethink.coldstart.questions import Question
from seethink.coldstart.scores import Tokenize, measure
from seethink.coldstart.store import Grader, Plan, Store
from seethink.coldstart.teacher import Ask, Teacher, Told
from seethink.core.console import progress_bar
from seethink.core.types import Grade, Sample, Verdict
from seethink.core.version import __version__
from seethink.rewards.rewarder import Rewarder

GRADED_AT_ONCE = 256
"""Traces whose grades are lost where the process is killed."""


def grader_of(rewarder: Rewarder) -> Grader:
    return Grader({"seethink": __version__, **rewarder.identity})


def collect_traces(plan: Plan, store: Store, teacher: Teacher, rewarder: Rewarder, *, retry_failed: bool) -> None:
    """Ask, grade, and ask again about what is not solved, until every question is solved or has all its samples.

    Samples that failed are asked again with `retry_failed`, once.
    """
    by, tried = grader_of(rewarder), set[str]()
    grade_traces(plan, store, rewarder)
    while True:
        asks = [a for a in plan.open_asks(store, by, retry_failed=retry_failed) if a.key not in tried]
        if not asks:
            return
        tried.update(ask.key for ask in asks)
        _ask(asks, store, teacher)
        grade_traces(plan, store, rewarder)


def _ask(asks: Sequence[Ask], store: Store, teacher: Teacher) -> None:
    numbers = sorted({ask.number + 1 for ask in asks})
    label = f"traces {numbers[0]}" + (f"-{numbers[-1]}" if len(numbers) > 1 else "")
    counts: dict[str, int] = {}
    tokens = 0
    with progress_bar(label, len(asks)) as advance:

        def take(ask: Ask, told: Told) -> None:
            nonlocal tokens
            store.add_trace(ask, told)
            counts[told.state] = counts.get(told.state, 0) + 1
            tokens += told.tokens_out or 0
            others = [f"{count:,} {state}" for state, count in counts.items() if state != "done"]
            advance(1, ", ".join([f"{tokens:,} tokens", *others]))

        teacher.ask(asks, take)


def grade_traces(plan: Plan, store: Store, rewarder: Rewarder) -> None:
    """Grade every trace that has no grade of this grader, or none because of an error."""
    by = grader_of(rewarder)
    waiting = [
        (key, question)
        for key, question in finished(plan, store)
        if store.verdict(key, by.digest(question)) in (None, Verdict.ERROR)
    ]
    with progress_bar("grades", len(waiting)) as advance:
        for start in range(0, len(waiting), GRADED_AT_ONCE):
            some = waiting[start : start + GRADED_AT_ONCE]
            pairs = [(question.sample(None), store.traces[key]["text"]) for key, question in some]
            for (key, question), grade in zip(some, rewarder.grade(pairs), strict=True):
                store.add_grade(key, by.digest(question), grade, decided(grade, rewarder))
            advance(len(some), "")


def decided(grade: Grade, rewarder: Rewarder) -> str:
    """Who decided: the rules, the verifier, or the recipe's own function."""
    if "function_sha256" in rewarder.identity.get("reward", {}):
        return "function"
    return "verifier" if grade.reason.startswith("verifier: ") else "rule"


def score_traces(plan: Plan, store: Store, tokenize: Tokenize, by: str) -> None:
    """Measure every trace that has no scores counted in the tokens of `by`."""
    waiting = [(key, q) for key, q in finished(plan, store) if not _is_scored(store, key, by)]
    with progress_bar("scores", len(waiting)) as advance:
        for key, question in waiting:
            scores = measure(_with_pictures(question), store.traces[key]["text"], tokenize)
            store.scores.append({"key": key, "by": by, **asdict(scores)})
            advance(1, "")


def _is_scored(store: Store, key: str, by: str) -> bool:
    found = store.scores.summaries.get(key)
    return found is not None and found.by == by


class _Unopened:
    """Stands for a picture where it matters only that there is one."""

    sha256 = ""
    size = (1, 1)

    def load(self) -> Any:
        raise AssertionError("scores look at no picture")


def _with_pictures(question: Question) -> Sample:
    sample = question.sample(None)
    return Sample(
        sample.id,
        sample.question,
        tuple(_Unopened() for _ in question.images),
        answer=sample.answer,
        choices=sample.choices,
        system=sample.system,
    )


def finished(plan: Plan, store: Store) -> Iterator[tuple[str, Question]]:
    """(key, question) of every trace that is one."""
    for question in plan.questions:
        for key in plan.keys(question):
            if store.state(key) == "done":
                yield key, question
