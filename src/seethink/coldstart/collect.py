"""Stages 2 to 4 run: traces are asked for, graded and scored, from wherever the files are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from seethink.coldstart.judge import judge_traces
from seethink.coldstart.questions import Question
from seethink.coldstart.reward_model import score_by_model
from seethink.coldstart.scores import Counting, measure
from seethink.coldstart.store import Grader, Plan, Store
from seethink.coldstart.teacher import Ask, Teacher, Told
from seethink.config.coldstart import ColdstartConfig
from seethink.core.console import progress_bar
from seethink.core.types import Grade, Verdict
from seethink.core.version import __version__
from seethink.endpoint.batch import ask_all
from seethink.rewards.rewarder import Rewarder

GRADED_AT_ONCE = 256
"""Traces whose grades are lost where the process is killed."""


def grader_of(rewarder: Rewarder) -> Grader:
    return Grader({"seethink": __version__, **rewarder.identity})


def collect_traces(
    plan: Plan, store: Store, teacher: Teacher, rewarder: Rewarder, counting: Counting, *, retry_failed: bool
) -> None:
    """Ask, grade, and ask again about what is not solved, until every question is solved or has all its samples.

    Samples that failed are asked again with `retry_failed`, once. Traces are scored as they come: a teacher takes
    longer over one than that.
    """
    by, tried = grader_of(rewarder), set[str]()
    grade_traces(plan, store, rewarder)
    while True:
        asks = [a for a in plan.open_asks(store, by, retry_failed=retry_failed) if a.key not in tried]
        if not asks:
            return
        tried.update(ask.key for ask in asks)
        _ask(asks, store, teacher, plan.config, counting)
        grade_traces(plan, store, rewarder)


def _ask(asks: Sequence[Ask], store: Store, teacher: Teacher, config: ColdstartConfig, counting: Counting) -> None:
    numbers = sorted({ask.number + 1 for ask in asks})
    label = f"traces {numbers[0]}" + (f"-{numbers[-1]}" if len(numbers) > 1 else "")
    so_far = _SoFar(config)
    with progress_bar(label, len(asks)) as advance:

        def take(ask: Ask, told: Told) -> None:
            store.add_trace(ask, told)
            if told.state == "done":
                _score(store, ask.key, ask.question, told.text, counting)
            so_far.add(told)
            advance(1, so_far.status())

        teacher.ask(asks, take)


class _SoFar:
    """What stands beside the bar: tokens a second, what they cost, and the states other than `done`."""

    def __init__(self, config: ColdstartConfig) -> None:
        self._config, self._started = config, time.monotonic()
        self._states: Counter[str] = Counter()
        self._tokens_in = self._tokens_out = 0

    def add(self, told: Told) -> None:
        self._states[told.state] += 1
        self._tokens_in += told.tokens_in or 0
        self._tokens_out += told.tokens_out or 0

    def status(self) -> str:
        c = self._config
        parts = [f"{self._tokens_out / max(time.monotonic() - self._started, 1e-9):,.0f} tokens/s"]
        cost = (self._tokens_in * c.price_in + self._tokens_out * c.price_out) / 1e6
        parts += [f"cost {cost:,.2f}"] if cost else []
        return ", ".join(parts + [f"{n:,} {state}" for state, n in sorted(self._states.items()) if state != "done"])


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


def reach_readers(config: ColdstartConfig) -> None:
    """Raises UserError where judge or reward model do not answer or are none: known before the teacher is paid."""
    if config.reward_checkpoint is not None:
        from seethink.models.reward_head import reward_class  # loads transformers, which takes seconds

        reward_class(config.reward_checkpoint)
    for role, server in (("judge", config.judge), ("reward model", config.reward_model)):
        if server is not None:
            list(ask_all(server, (), role=role))


def read_right(plan: Plan, store: Store, by: Grader) -> None:
    """What is measured of the right traces alone, on demand: perplexity under the student, what a reward model and a
    judge say."""
    config = plan.config
    wanted = (config.perplexity or None, config.judge, config.reward_model, config.reward_checkpoint)
    if not any(one is not None for one in wanted):
        return
    right = [
        (key, question, store.traces[key]["text"])
        for key, question in finished(plan, store)
        if store.verdict(key, by.digest(question)) is Verdict.CORRECT
    ]
    if config.perplexity and config.student is not None:
        from seethink.coldstart.perplexity import measure_perplexity  # loads transformers, which takes seconds

        measure_perplexity(config.student, store.folder, right, store.perplexity)
    if config.reward_model is not None:
        score_by_model(config.reward_model, store.folder, right, store.rewards)
    if config.reward_checkpoint is not None:
        from seethink.coldstart.reward_checkpoint import score_by_checkpoint

        assert plan.rewarded is not None
        score_by_checkpoint(config.reward_checkpoint, plan.rewarded, store.folder, right, store.rewards)
    if config.judge is not None:
        judge_traces(config.judge, right, store.judgements)


def decided(grade: Grade, rewarder: Rewarder) -> str:
    """Who decided: the rules, the verifier, or the recipe's own function."""
    if "function_sha256" in rewarder.identity.get("reward", {}):
        return "function"
    return "verifier" if grade.reason.startswith("verifier: ") else "rule"


def score_traces(plan: Plan, store: Store, counting: Counting) -> None:
    """Measure every trace that has no scores counted so."""
    waiting = [(key, q) for key, q in finished(plan, store) if not _is_scored(store, key, counting.by)]
    with progress_bar("scores", len(waiting)) as advance:
        for key, question in waiting:
            _score(store, key, question, store.traces[key]["text"], counting)
            advance(1, "")


def _score(store: Store, key: str, question: Question, text: str, counting: Counting) -> None:
    store.add_scores(key, counting.by, measure(question.sample(None), text, counting.tokenize))


def _is_scored(store: Store, key: str, by: str) -> bool:
    found = store.scores.summaries.get(key)
    return found is not None and found.by == by


def finished(plan: Plan, store: Store) -> Iterator[tuple[str, Question]]:
    """(key, question) of every trace that is one."""
    for question in plan.questions:
        for key in plan.keys(question):
            if store.state(key) == "done":
                yield key, question
