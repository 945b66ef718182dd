"""The files of a cold start, what is in them by now, and which questions are still open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from seethink.coldstart.judge import FILE as JUDGEMENTS
from seethink.coldstart.judge import StoredJudgement, read_stored
from seethink.coldstart.questions import Question
from seethink.coldstart.records import Records
from seethink.coldstart.reward_model import FILE as REWARDS
from seethink.coldstart.reward_model import StoredReward
from seethink.coldstart.reward_model import read_stored as read_reward
from seethink.coldstart.scores import TraceScores
from seethink.coldstart.teacher import Ask, State, Told
from seethink.config.coldstart import ColdstartConfig
from seethink.core.redact import redact_text
from seethink.core.types import Grade, Verdict

TRACES, GRADES, SCORES, PERPLEXITY = "traces.jsonl", "grades.jsonl", "scores.jsonl", "perplexity.jsonl"
TEMPLATE = 1
"""Changes where the same question is put to a teacher in other words."""
MOST_CUT = 2
"""Truncated samples after which a question is not asked again: it would be paid for and be too long once more."""


@dataclass(frozen=True, slots=True)
class TraceHead:
    """A trace without its text."""

    key: str
    state: State
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True, slots=True)
class StoredGrade:
    by: str
    """A hash of the gold and of the grader: another one asks for another grade."""
    verdict: Verdict
    decided: str
    """`rule`, `verifier` or `function`."""


@dataclass(frozen=True, slots=True)
class StoredScores:
    by: str
    """The tokenizer that lengths are counted with."""
    scores: TraceScores


@dataclass(frozen=True, slots=True)
class StoredPerplexity:
    by: str
    """A hash of the student."""
    perplexity: float | None
    """None where question and trace do not fit into the student."""


class Store:
    """What a folder has: traces, their grades and scores, each in an append-only file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.traces: Records[TraceHead] = Records(folder / TRACES, _head)
        self.grades: Records[StoredGrade] = Records(folder / GRADES, _grade)
        self.scores: Records[StoredScores] = Records(folder / SCORES, _scores)
        self.perplexity: Records[StoredPerplexity] = Records(folder / PERPLEXITY, _perplexity)
        self.rewards: Records[StoredReward] = Records(folder / REWARDS, read_reward)
        self.judgements: Records[StoredJudgement] = Records(folder / JUDGEMENTS, read_stored)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for records in (self.traces, self.grades, self.scores, self.perplexity, self.rewards, self.judgements):
            records.close()

    def state(self, key: str) -> State | None:
        head = self.traces.summaries.get(key)
        return head.state if head is not None else None

    def verdict(self, key: str, by: str) -> Verdict | None:
        """None where the trace has no grade, or one of another grader or gold."""
        found = self.grades.summaries.get(key)
        return found.verdict if found is not None and found.by == by else None

    def add_trace(self, ask: Ask, told: Told) -> None:
        about = {"question": ask.question.key, "id": ask.question.id, "sample": ask.number}
        said = {name: getattr(told, name) for name in Told.__slots__}
        if told.error is not None:
            said["error"] = redact_text(told.error)
        self.traces.add({"key": ask.key, **about, **{name: x for name, x in said.items() if x is not None}})

    def add_grade(self, key: str, by: str, grade: Grade, decided: str) -> None:
        said = {"verdict": str(grade.verdict), "extracted": grade.extracted, "reason": grade.reason}
        self.grades.add({"key": key, "by": by, "decided": decided, **said})

    def add_scores(self, key: str, by: str, scores: TraceScores) -> None:
        self.scores.add({"key": key, "by": by, **{name: getattr(scores, name) for name in TraceScores.__slots__}})


@dataclass(frozen=True, slots=True)
class Plan:
    """Which samples of which questions are wanted, by which keys."""

    questions: Sequence[Question]
    config: ColdstartConfig
    teacher: dict[str, Any]
    """The identity of the teacher."""
    system: str
    seed: int
    rewarded: str | None = None
    """The identity of the reward model; None without one."""

    def key(self, question: Question, number: int) -> str:
        """A hash of everything that a trace depends on."""
        c = self.config
        asked = [self.teacher, self.system, TEMPLATE, c.temperature, c.top_p, c.max_tokens, self.seed]
        return _digest([question.key, number, *asked])

    def keys(self, question: Question) -> list[str]:
        return [self.key(question, number) for number in range(self.config.samples)]

    def needed(self, question: Question) -> int:
        """Right traces after which the question is not asked again."""
        return max(1, self.config.choice_right) if question.choices else 1

    def open_asks(self, store: Store, by: Grader, *, retry_failed: bool) -> Iterator[Ask]:
        """The next sample of every question that needs one; all its samples at once where sampling is not adaptive.

        A question waits while one of its samples has failed or could not be graded: it may be solved already.
        """
        for question in self.questions:
            right = cut = 0
            for number, key in enumerate(self.keys(question)):
                state = store.state(key)
                if state is None or (state == "failed" and retry_failed):
                    yield Ask(key, question, number)
                    if self.config.adaptive:
                        break
                    continue
                cut += state == "truncated"
                verdict = store.verdict(key, by.digest(question)) if state == "done" else None
                right += verdict is Verdict.CORRECT
                waits = state == "failed" or (state == "done" and verdict in (None, Verdict.ERROR))
                if self.config.adaptive and (waits or right >= self.needed(question) or cut >= MOST_CUT):
                    break


@dataclass(frozen=True, slots=True)
class Grader:
    """Who grades: the rules of this version, and what the recipe adds to them."""

    identity: dict[str, Any]

    def digest(self, question: Question) -> str:
        """A hash of the grader and of what it compares with."""
        return _digest([self.identity, question.answer, question.answer_type])[:12]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()[:32]


def _head(record: Mapping[str, Any]) -> TraceHead:
    return TraceHead(record["key"], record["state"], record.get("tokens_in"), record.get("tokens_out"))


def _grade(record: Mapping[str, Any]) -> StoredGrade:
    return StoredGrade(record["by"], Verdict(record["verdict"]), record["decided"])


def _perplexity(record: Mapping[str, Any]) -> StoredPerplexity:
    return StoredPerplexity(record["by"], record["perplexity"])


def _scores(record: Mapping[str, Any]) -> StoredScores:
    table = {name: record[name] for name in TraceScores.__slots__ if name in record}
    tuples = {name: tuple(value) for name, value in table.items() if isinstance(value, list)}
    return StoredScores(record["by"], TraceScores(**{**table, **tuples}))
