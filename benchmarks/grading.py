"""Rule graders side by side on one file of labelled cases.

    python benchmarks/grading.py CASES.jsonl [--out benchmarks/grading_DATE.md]

Each grader runs in a process of its own. A case that takes more than ten seconds is a hang: the process is killed
and the case counts as not accepted. The peers need math-verify and are left out without it; TRL's own
`accuracy_reward` is used where trl can be imported, else the same call of Math-Verify with TRL's configuration.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Case = dict[str, Any]
Grader = Callable[[Case], bool]
HANG = 10.0


def after_thinking(text: str) -> str:
    return text.rpartition("</think>")[2]


def exact_match() -> Grader:
    """The whole text after the thoughts equals the gold, but for spaces and case."""
    return lambda case: after_thinking(case["prediction"]).strip().casefold() == case["gold"].strip().casefold()


def ours() -> Grader:
    from seethink.core.types import Verdict
    from seethink.rewards.grader import grade

    def accepts(case: Case) -> bool:
        found = grade(case["prediction"], case["gold"], case.get("answer_type"), case.get("choices"))
        return found.verdict is Verdict.CORRECT

    return accepts


def math_verify_best() -> Grader:
    """Math-Verify at its best: thoughts cut, letters for multiple choice, `$` where no mathematics is marked."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    letters = (StringExtractionConfig(strings=tuple("ABCDEFGHIJ"), lowercase=False),)
    maths = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

    def accepts(case: Case) -> bool:
        text, gold = after_thinking(case["prediction"]), case["gold"]
        if case.get("choices"):
            return bool(verify(parse(gold, letters), parse(text, (*letters, *maths))))
        marked = any(mark in text for mark in ("$", "\\(", "\\[", "\\boxed"))
        texts = [text] if marked else [text, f"${text}$"]
        target = parse(gold if "$" in gold else f"${gold}$", maths)
        return any(bool(verify(target, parse(each, maths))) for each in texts)

    return accepts


def trl() -> Grader:
    try:
        from trl.rewards import accuracy_reward
    except ImportError:
        return trl_configuration()

    def accepts(case: Case) -> bool:
        gold = case["gold"] if "$" in case["gold"] else f"${case['gold']}$"
        return accuracy_reward([[{"role": "assistant", "content": case["prediction"]}]], [gold])[0] == 1.0

    return accepts


def trl_configuration() -> Grader:
    """What TRL's accuracy_reward asks of Math-Verify."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    config = LatexExtractionConfig(
        normalization_config=NormalizationConfig(units=True), boxed_match_priority=0, try_extract_without_anchor=False
    )

    def accepts(case: Case) -> bool:
        gold = parse(case["gold"] if "$" in case["gold"] else f"${case['gold']}$")
        found = parse(case["prediction"], extraction_config=[config], extraction_mode="first_match")
        return bool(gold) and bool(verify(gold, found))

    return accepts


GRADERS = {
    "seethink": ours,
    "Math-Verify, best use": math_verify_best,
    "TRL accuracy_reward": trl,
    "exact match": exact_match,
}


@dataclass
class Result:
    """Counts of one grader over all cases."""

    total: int = 0
    right: int = 0
    negatives: int = 0
    false_positives: int = 0
    positives: int = 0
    false_negatives: int = 0
    hangs: int = 0
    seconds: float = 0.0

    def add(self, expected: bool, accepted: bool | None, seconds: float) -> None:
        self.total += 1
        self.seconds += seconds
        self.hangs += accepted is None
        self.positives += expected
        self.negatives += not expected
        self.false_positives += bool(accepted) and not expected
        self.false_negatives += expected and not accepted
        self.right += bool(accepted) == expected

    def row(self, name: str) -> str:
        share = [self.right / self.total, self.false_positives / self.negatives, self.false_negatives / self.positives]
        figures = " | ".join(f"{100 * value:.1f}" for value in share)
        return f"| {name} | {figures} | {self.total / self.seconds:,.0f} | {self.hangs} |"


def serve(name: str, pipe: Any) -> None:
    try:
        grader = GRADERS[name]()
    except ImportError as problem:
        pipe.send(problem)
        return
    pipe.send(None)
    while True:
        case = pipe.recv()
        start = time.perf_counter()
        try:
            accepted = grader(case)
        except Exception:  # a grader that raises does not accept
            accepted = False
        pipe.send((accepted, time.perf_counter() - start))


class Process:
    """One grader in a process that is killed when it hangs."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(name, other))
        self.process.start()
        problem = self.pipe.recv()
        if problem is not None:
            raise problem

    def grade(self, case: Case) -> tuple[bool, float] | None:
        self.pipe.send(case)
        return self.pipe.recv() if self.pipe.poll(HANG) else None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def measure(name: str, cases: list[Case]) -> Result:
    result, process = Result(), Process(name)
    for case in cases:
        answer = process.grade(case)
        if answer is None:
            process.kill()
            process = Process(name)
        accepted, seconds = answer or (None, HANG)
        result.add(case["expected"], accepted, seconds)
    process.kill()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cases = [json.loads(line) for line in arguments.cases.open()]
    lines = [
        "| grader | right % | false positives % | false negatives % | grades/s | hangs |",
        "|---|---|---|---|---|---|",
    ]
    for name in GRADERS:
        try:
            lines.append(measure(name, cases).row(name))
        except ImportError as problem:
            print(f"{name}: left out ({problem})", flush=True)
            continue
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
