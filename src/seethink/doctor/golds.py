"""Is every gold answer gradable? The bare answer must be right, and an empty response must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from seethink.coldstart.filters import verify_traces
from seethink.config import SftConfig
from seethink.core.types import Grade, Sample, Verdict
from seethink.data.chat import Chat
from seethink.rewards.golds import bare_answers
from seethink.rewards.grader.golds import kind_of
from seethink.rewards.rewarder import Rewarder

BATCH = 256
LONG = 200
"""Characters."""
KINDS = {
    "choice": "choice", "letter": "choice", "lettered": "choice", "letters": "choice", "maths": "number or formula",
    "code": "text", "text": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BadGold:
    file: str
    row: int
    answer: str
    detail: str


@dataclass
class Golds:
    """What the grader made of the golds of one source."""

    kinds: Counter[str] = field(default_factory=Counter)
    graded: int = 0
    ungradable: list[BadGold] = field(default_factory=list)
    rewarded_empty: list[BadGold] = field(default_factory=list)
    long: list[BadGold] = field(default_factory=list)
    """Golds of several lines or over LONG characters."""
    errors: list[str] = field(default_factory=list)
    """What the grader raised: its own mistakes, or those of the recipe's function."""
    kept_traces: int = 0
    traces: int = 0
    dropped_traces: Counter[str] = field(default_factory=Counter)


class GoldGrader:
    """Takes samples as they stream by, without their images, and grades them in batches."""

    def __init__(self, rewarder: Rewarder, golds: Golds, *, traces: tuple[SftConfig, Chat] | None) -> None:
        self._rewarder, self._golds, self._traces = rewarder, golds, traces
        self._waiting: list[Sample] = []

    def add(self, sample: Sample) -> None:
        self._waiting.append(replace(sample, images=()))
        if len(self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        samples, self._waiting = self._waiting, []
        if not samples:
            return
        self._grade([sample for sample in samples if sample.answer])
        if self._traces is not None:
            self._verify([sample for sample in samples if sample.response])

    def _grade(self, samples: list[Sample]) -> None:
        golds = self._golds
        for sample in samples:
            kind = kind_of(sample.answer, sample.answer_type, sample.choices or None)
            golds.kinds[KINDS.get(kind, kind)] += 1
        golds.long += [_bad(s, "long") for s in samples if len(s.answer) > LONG or "\n" in s.answer]
        stated = [(sample, boxed(bare)) for sample in samples for bare in bare_answers(sample.answer, sample.choices)]
        empty = self._ask([(sample, "") for sample in samples])
        wrong: dict[int, BadGold] = {}
        for (sample, response), grade in zip(stated, self._ask(stated), strict=False):
            if not grade.accuracy > 0:  # a function of the recipe may reward in part; an error is NaN
                wrong.setdefault(id(sample), _bad(sample, f"{response} is {grade.verdict}: {grade.reason}"))
        golds.ungradable += wrong.values()
        golds.graded += len(empty)
        for sample, grade in zip(samples, empty, strict=False):
            if grade.verdict is Verdict.CORRECT:
                golds.rewarded_empty.append(_bad(sample, grade.reason))

    def _ask(self, pairs: Sequence[tuple[Sample, str]]) -> list[Grade]:
        try:
            return self._rewarder.grade(pairs)
        except Exception as error:  # around the grader: the recipe may name a function of its own
            self._golds.errors.append(f"{type(error).__name__}: {error}")
            return []

    def _verify(self, samples: list[Sample]) -> None:
        """The filters of SFT, so that a file of useless traces is known before the run."""
        assert self._traces is not None
        config, chat = self._traces
        try:
            kept, told = verify_traces(samples, config, self._rewarder.grade, chat.response_ids)
        except Exception as error:
            self._golds.errors.append(f"{type(error).__name__}: {error}")
            return
        self._golds.traces += told.read
        self._golds.kept_traces += len(kept)
        self._golds.dropped_traces.update(told.dropped)


def perfect(sample: Sample) -> str:
    """The response that states the gold outright."""
    return boxed(bare_answers(sample.answer, sample.choices)[0])


def boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def _bad(sample: Sample, detail: str) -> BadGold:
    return BadGold(str(sample.meta.get("file", "")), int(sample.meta.get("row", 0)), sample.answer, detail)
