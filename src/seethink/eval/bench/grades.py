"""Grades of stored answers: by rule first, by the verifier where the rule says wrong and an answer was found.

One record per answer, with all that scores need, so that a benchmark is scored without reading its answers again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from seethink.core.types import Grade, Verdict
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.generations import Generation
from seethink.eval.bench.prompts import MARK

if TYPE_CHECKING:
    from seethink.rewards.verifier.verifier import Verifier, VerifierConfig

_CODE = ("seethink.rewards.grader", "seethink.eval.bench", "seethink.eval.tasks")
_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Graded:
    """The grade of one answer, and of the answer what scores need."""

    key: str
    """Of the generation."""
    grader: str
    """Identity of the rules, of the benchmark's version and of the verifier."""
    id: str
    run: int
    verdict: str
    by: str
    """`rule`, `verifier`, or `format` where there was no answer to grade."""
    extracted: str | None
    reason: str
    finish: str
    tokens: int

    @property
    def right(self) -> float:
        """1, 0, or NaN where it could not be graded."""
        return float("nan") if self.verdict == Verdict.ERROR else float(self.verdict == Verdict.CORRECT)

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def of_record(record: Mapping[str, Any]) -> Graded:
    """The grade that a stored record holds."""
    return Graded(**{name: record[name] for name in Graded.__dataclass_fields__})


class BenchGrader:
    """Grades the answers of benchmarks."""

    def __init__(self, verifier: Verifier | None = None, config: VerifierConfig | None = None) -> None:
        """`config` is the verifier's, whose model and limits name its grades."""
        self._verifier = verifier
        self._asked = "" if config is None else f"{config.model}/{config.max_answer_chars}"
        self._code = code_digest()

    def identity(self, benchmark: Benchmark) -> str:
        """The name of the grades that this object makes: others are made anew."""
        said = "/".join((self._code, benchmark.name, benchmark.version, self._asked))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def grade(self, benchmark: Benchmark, pairs: Sequence[tuple[Item, Generation]]) -> list[Graded]:
        """A grade each, in order."""
        answers = [generation.answer for _, generation in pairs]
        asked = [place for place, answer in enumerate(answers) if answer is not None]
        given = iter(benchmark.grade([(pairs[place][0], answers[place] or "") for place in asked]))
        grades = [next(given) if a is not None else _no_answer(g) for (_, g), a in zip(pairs, answers, strict=True)]
        by = ["rule" if answer is not None else "format" for answer in answers]
        if self._verifier is not None:
            self._ask(self._verifier, [item for item, _ in pairs], grades, by)
        name = self.identity(benchmark)
        return [
            Graded(
                g.key, name, g.id, g.run, str(grade.verdict), by[place], _cut(grade.extracted), grade.reason[:_SHOWN],
                g.finish, g.tokens,
            )
            for place, ((_, g), grade) in enumerate(zip(pairs, grades, strict=True))
        ]  # fmt: skip

    def _ask(self, verifier: Verifier, items: Sequence[Item], grades: list[Grade], by: list[str]) -> None:
        """Second opinions, as rewards have them: about the answer that was found, never the thinking."""
        from seethink.rewards.verifier.verifier import VerifyItem

        places = [n for n, g in enumerate(grades) if g.verdict is Verdict.WRONG and g.extracted and items[n].gold]
        about = [
            VerifyItem(items[n].question.replace(MARK, ""), items[n].gold, grades[n].extracted or "") for n in places
        ]
        for place, verdict in zip(places, verifier.verify(about), strict=True):
            if verdict is not None:
                grades[place], by[place] = verdict, "verifier"


def _no_answer(generation: Generation) -> Grade:
    why = {"refused": "refused", "not_asked": "not asked", "length": "cut off before an answer"}
    reason = why.get(generation.finish, "a thought that never ends")
    return Grade(Verdict.NO_ANSWER, None, f"{reason}: {generation.detail}" if generation.detail else reason)


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_SHOWN]


def code_digest() -> str:
    """A hash of the code that grades."""
    digest = hashlib.sha256()
    for package in _CODE:
        folder = files(package)
        for file in sorted((one for one in folder.iterdir() if one.name.endswith(".py")), key=lambda one: one.name):
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
