"""One benchmark run: missing answers are made, missing grades too, and the stores put in order.

Killed at any moment and started again with the same settings, a run ends with the same bytes: answers are named by what
they depend on, random numbers by item and run, and files are ordered by item at the end.

Letters: N items, K runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seethink.core.aside import Aside
from seethink.core.console import progress_bar
from seethink.core.errors import UserError
from seethink.eval.bench import generations, grades
from seethink.eval.bench.answerers import Answerer, Work
from seethink.eval.bench.benchmark import Benchmark, Item
from seethink.eval.bench.generations import Generation, Settings, generation_key, prompt_digest
from seethink.eval.bench.grades import BenchGrader, Graded
from seethink.eval.bench.load import Loaded
from seethink.runs.keyed_lines import KeyedLines

_AT_ONCE = 512
"""Answers that are graded, and held in memory, together."""


def generations_path(out: Path, name: str, run: int) -> Path:
    return out / "generations" / name / f"run_{run}.jsonl"


def grades_path(out: Path, name: str) -> Path:
    return out / "grades" / f"{name}.jsonl"


@dataclass(slots=True)
class Ran:
    """What a run of one benchmark left."""

    benchmark: Benchmark
    loaded: Loaded
    graded: list[list[Graded | None]]
    """[N][K] None where the answer is missing."""
    failures: int = 0
    reason: str = ""
    """Of the last failure."""


class BenchRun:
    """The stores of one benchmark under `out`, and what is missing in them."""

    def __init__(
        self, benchmark: Benchmark, loaded: Loaded, settings: Settings, out: Path, grader: BenchGrader
    ) -> None:
        self._benchmark, self._loaded, self._settings, self._grader = benchmark, loaded, settings, grader
        self._answers = [KeyedLines(generations_path(out, benchmark.name, run)) for run in range(settings.runs)]
        self._grades = KeyedLines(grades_path(out, benchmark.name))
        self._tally = _Tally()

    def run(self, answerer: Answerer, model: dict[str, Any]) -> Ran:
        """Make what is missing. `model` is the answerer's identity, as it is stored with the run."""
        keys_NK = self._keys(model)
        work = self._work(keys_NK)
        total = len(keys_NK) * self._settings.runs
        missing = sum(map(len, work.missing.values()))
        by_id = {item.id: item for item in self._loaded.items}
        with progress_bar(self._benchmark.name, total, total - missing) as advance, Aside(self._grade) as aside:
            for made in answerer.answers(work, self._settings) if missing else ():
                for run in sorted({one.run for one in made}):
                    self._answers[run].append(one.record() for one in made if one.run == run)
                aside.add([(by_id[one.id], one) for one in made])
                self._tally.add(made)
                advance(len(made), self._tally.shown())
        failures = answerer.failures
        return self._finish(keys_NK, failures.count, failures.reason)

    def regrade(self) -> Ran:
        """Grade the stored answers, without a model; what is missing has no score. Raises UserError where all is."""
        by_id = {item.id: n for n, item in enumerate(self._loaded.items)}
        keys_NK = [["" for _ in self._answers] for _ in by_id]
        for run, store in enumerate(self._answers):
            for record in store.read(store.keys()):
                if record["id"] in by_id:
                    keys_NK[by_id[record["id"]]][run] = record["key"]
        absent = sum(not key for keys in keys_NK for key in keys)
        if absent == len(keys_NK) * len(self._answers):
            raise UserError(f"--regrade: {self._benchmark.name} has no stored answers; ask for them first")
        reason = "never stored; the command that began the run asks for them"
        return self._finish(keys_NK, absent, reason if absent else "")

    def close(self) -> None:
        for store in (*self._answers, self._grades):
            store.close()

    def _keys(self, model: dict[str, Any]) -> list[list[str]]:
        prompts = [prompt_digest(item) for item in self._loaded.items]
        named = {"benchmark": self._benchmark.name, **model}
        return [
            [generation_key(named, prompt, self._settings, place, run) for run in range(self._settings.runs)]
            for prompt, place in zip(prompts, self._loaded.places, strict=True)
        ]

    def _work(self, keys_NK: list[list[str]]) -> Work:
        missing = {
            n: absent
            for n, keys in enumerate(keys_NK)
            if (absent := {run: key for run, key in enumerate(keys) if key not in self._answers[run]})
        }
        return Work(self._benchmark.name, self._loaded.items, self._loaded.places, missing)

    def _finish(self, keys_NK: list[list[str]], failures: int, reason: str) -> Ran:
        """Grade what has no grade of this grader's, put the stores in order, and read the grades."""
        there_NK = [[key if key in self._answers[run] else None for run, key in enumerate(keys)] for keys in keys_NK]
        known = self._known_grades(key for keys in there_NK for key in keys if key)
        for pairs in self._ungraded(there_NK, known):
            known |= {one.key: one for one in self._grade(pairs)}
        in_order = [key for keys in there_NK for key in keys if key]
        for run, store in enumerate(self._answers):
            store.put_in_order([key for keys in there_NK if (key := keys[run])])
        self._grades.put_in_order(in_order)
        graded = [[known[key] if key else None for key in keys] for keys in there_NK]
        return Ran(self._benchmark, self._loaded, graded, failures, reason)

    def _known_grades(self, keys: Iterator[str]) -> dict[str, Graded]:
        name = self._grader.identity(self._benchmark)
        stored = self._grades.read(key for key in keys if key in self._grades)
        return {record["key"]: grades.of_record(record) for record in stored if record.get("grader") == name}

    def _ungraded(
        self, there_NK: list[list[str | None]], known: dict[str, Graded]
    ) -> Iterator[list[tuple[Item, Generation]]]:
        pairs: list[tuple[Item, Generation]] = []
        total = sum(bool(key) and key not in known for keys in there_NK for key in keys)
        with progress_bar(f"grade {self._benchmark.name}", total) as advance:
            for item, keys in zip(self._loaded.items, there_NK, strict=True):
                for run, key in enumerate(keys):
                    if key and key not in known:
                        pairs.append((item, generations.of_record(next(self._answers[run].read([key])))))
                if len(pairs) >= _AT_ONCE:
                    yield pairs
                    advance(len(pairs), self._tally.shown())
                    pairs = []
            if pairs:
                yield pairs
                advance(len(pairs), self._tally.shown())

    def _grade(self, pairs: Sequence[tuple[Item, Generation]]) -> list[Graded]:
        found = self._grader.grade(self._benchmark, pairs)
        self._grades.append(one.record() for one in found)
        self._tally.grade(found)
        return found


@dataclass(slots=True)
class _Tally:
    """What the progress bar says: tokens per second, and the accuracy so far."""

    tokens: int = 0
    graded: int = 0
    right: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, made: Sequence[Generation]) -> None:
        self.tokens += sum(one.tokens for one in made)

    def grade(self, found: Sequence[Graded]) -> None:
        self.graded += len(found)
        self.right += sum(one.right == 1 for one in found)

    def shown(self) -> str:
        rate = self.tokens / max(time.monotonic() - self.started, 1e-9)
        speed = f"{rate:,.0f} tokens/s, " if self.tokens else ""
        return f"{speed}{100 * self.right / max(1, self.graded):.1f}% right"
