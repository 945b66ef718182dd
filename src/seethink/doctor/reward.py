"""The reward before the run: the right answer in think format scores all of it, an empty response nothing."""

from __future__ import annotations

import os

from seethink.config import Recipe
from seethink.core.errors import UserError
from seethink.core.types import Completion, Sample, Verdict
from seethink.doctor.check import Report, Status
from seethink.doctor.golds import perfect
from seethink.rewards.rewarder import Rewarder

SECTION = "reward"
SYMBOLIC = Sample("doctor", "", answer="\\frac{1}{2} + x^2")
"""Only a worker process can tell that the next is the same."""
EQUAL = "<think>Both are one.</think>\\boxed{x \\cdot x + 0.5}"


def check_reward(report: Report, recipe: Recipe, samples: list[Sample], *, ask_verifier: bool) -> None:
    config = recipe.reward.model_copy(update={"verifier": None})
    try:
        rewarder = Rewarder(config)
    except UserError:
        report.add(SECTION, "grader", Status.SKIP, "reward.function cannot be loaded")
        return
    if config.function is None:
        _check_worker(report, rewarder)
    _check_scores(report, recipe, rewarder, [sample for sample in samples if sample.answer])
    _check_verifier(report, recipe, ask=ask_verifier)


def _check_worker(report: Report, rewarder: Rewarder) -> None:
    grade = rewarder.grade([(SYMBOLIC, EQUAL)])[0]
    if grade.verdict is Verdict.CORRECT:
        report.add(SECTION, "grader", Status.PASS, "rules work, and so does the worker for symbolic maths")
        return
    advice = "run `python -c 'import sympy'`: the worker needs it and must start within a minute"
    report.add(SECTION, "grader", Status.FAIL, f"equal formulas are not seen as equal: {grade.reason}", advice)


def _check_scores(report: Report, recipe: Recipe, rewarder: Rewarder, samples: list[Sample]) -> None:
    if not samples:
        report.add(SECTION, "scores", Status.SKIP, "no good row has a gold answer to try")
        return
    full = recipe.reward.accuracy_weight + recipe.reward.format_weight
    best = [(s, _completion(f"<think>I see it.</think>{perfect(s)}")) for s in samples]
    empty = [(s, _completion("")) for s in samples]
    try:
        rewarder.score([*best, *empty])
    except Exception as error:  # around the grader: the recipe may name a function of its own
        found = f"the grader raised {type(error).__name__}: {error}"
        report.add(
            SECTION, "scores", Status.FAIL, found, "make reward.function return a Grade or a number for every response"
        )
        return
    right = sum(abs(c.reward - full) < 1e-9 for _, c in best)
    nothing = sum(c.reward == 0 for _, c in empty)
    found = f"gold answers in think format get {full:g} ({right} of {len(best)}), empty responses 0 ({nothing})"
    if nothing < len(empty):
        advice = "correct the grader: a policy learns to say nothing"
        report.add(SECTION, "scores", Status.FAIL, found, advice)
    elif right < len(best):
        advice = "look at the golds above; a reward.function of its own may want another form"
        report.add(SECTION, "scores", Status.WARN, found, advice)
    else:
        report.add(SECTION, "scores", Status.PASS, found)


def _completion(text: str) -> Completion:
    return Completion([], [], [], text, False, 0)


def _check_verifier(report: Report, recipe: Recipe, *, ask: bool) -> None:
    config = recipe.reward.verifier
    if config is None:
        return
    if config.api_key_env and not os.environ.get(config.api_key_env):
        advice = f"export {config.api_key_env}=... where the run starts"
        report.add(SECTION, "verifier", Status.FAIL, f"the variable {config.api_key_env} is not set", advice)
        return
    if not ask:
        said = f"{config.model} at {config.base_url} is not asked; --ask-verifier does"
        report.add(SECTION, "verifier", Status.INFO, said)
        return
    from seethink.rewards.verifier.verifier import Verifier, VerifyItem

    quick = config.model_copy(
        update={"on_down": "rule_only", "cache": None, "canary_every": 0, "recheck_share": 0.0, "max_retries": 1}
    )
    try:
        with Verifier(quick) as verifier:
            grades = verifier.verify(
                [VerifyItem("What is 2 + 2?", "4", "four"), VerifyItem("What is 2 + 2?", "4", "5")]
            )
    except Exception as error:  # whatever a client, a proxy or a server comes up with is the finding
        report.add(
            SECTION, "verifier", Status.FAIL, f"{type(error).__name__}: {error}", "start the server, or correct it"
        )
        return
    verdicts = [grade.verdict if grade is not None else None for grade in grades]
    if verdicts == [Verdict.CORRECT, Verdict.WRONG]:
        report.add(SECTION, "verifier", Status.PASS, f"{config.model} takes 'four' for 4, and not 5")
    elif any(verdict in (None, Verdict.ERROR) for verdict in verdicts):
        advice = "start it, or correct reward.verifier.base_url and reward.verifier.model"
        report.add(SECTION, "verifier", Status.FAIL, f"no verdict from {config.base_url}", advice)
    else:
        said = f"{config.model} says {verdicts[0]} of 'four' for 4, and {verdicts[1]} of 5 for 4"
        report.add(SECTION, "verifier", Status.WARN, said, "measure it: seethink verifier check CASES.jsonl")
