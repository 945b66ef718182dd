"""The folder of a cold start: that it is ours, and with which teacher and sampling its traces were collected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seethink.coldstart.judge import judge_identity
from seethink.coldstart.questions import Questions
from seethink.coldstart.reward_model import server_identity
from seethink.coldstart.select import Trace
from seethink.coldstart.store import Grader, Plan, Store
from seethink.coldstart.teacher import Teacher
from seethink.config.coldstart import ColdstartConfig
from seethink.core.errors import UserError
from seethink.core.files import write_json
from seethink.runs.lock import FILE as LOCK
from seethink.runs.reading import read_object

TEACHER = "teacher.json"
COLLECTED = (
    "samples", "adaptive", "system", "temperature", "top_p", "max_tokens", "judge", "reward_model", "reward_checkpoint",
)  # fmt: skip
"""Keys of `[coldstart]` that say how traces are collected; all others choose among them."""


def claim_folder(folder: Path, source: str) -> None:
    """Raises UserError where a folder has files of something else, or lies among the data that are read."""
    data = Path(source).expanduser()
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise UserError(f"-o {str(folder)!r} lies inside {source}, which would be read with it: choose another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK).exists():
        raise UserError(f"-o {str(folder)!r} has files that are not of a cold start: choose another folder")


def remember_teacher(
    folder: Path, teacher: Teacher, urls: Sequence[str], grader: Grader, config: ColdstartConfig, seed: int
) -> None:
    """Write teacher.json. Raises UserError where other servers have the name of the folder's teacher."""
    before = read_object(folder / TEACHER)
    known = set(before.get("servers", ()))
    if before.get("identity") == teacher.identity and known and urls and not known & set(urls):
        raise UserError(
            f"{folder} has traces of {before['name']!r} at {', '.join(sorted(known))}, and other servers may serve "
            f"another model under that name: choose another -o, or delete {folder / TEACHER} if it is the same model"
        )
    about = {
        "identity": teacher.identity,
        "name": teacher.name,
        "servers": sorted(known | set(urls)) if before.get("identity") == teacher.identity else sorted(urls),
        "system": config.system if config.system is not None else teacher.system,
        "seed": seed,
        "grader": grader.identity,
        "rewarded": reward_identity(config),
        "collected": config.model_dump(mode="json", include=set(COLLECTED)),
    }
    write_json(folder / TEACHER, about)


def reward_identity(config: ColdstartConfig) -> str | None:
    """What the score of a trace depends on besides the trace; None without a reward model."""
    if config.reward_checkpoint is not None:
        from seethink.coldstart.reward_checkpoint import checkpoint_digest  # loads transformers, which takes seconds

        return checkpoint_digest(config.reward_checkpoint)
    return server_identity(config.reward_model) if config.reward_model is not None else None


def remembered(folder: Path) -> dict[str, Any]:
    """What `remember_teacher` wrote. Raises UserError where nothing was collected."""
    about = read_object(folder / TEACHER)
    if not {"identity", "system", "seed", "grader", "collected"} <= about.keys():
        raise UserError(f"{folder} has no traces to select from: give --teacher, without --refilter")
    return about


def plan_of(about: dict[str, Any], questions: Questions, config: ColdstartConfig) -> Plan:
    return Plan(
        questions.kept, config, about["identity"], about["system"], about["seed"], rewarded=about.get("rewarded")
    )


def traces_of(plan: Plan, store: Store, by: Grader) -> dict[str, list[Trace]]:
    """The samples of every question that the folder has, in order."""
    judge = judge_identity(plan.config.judge) if plan.config.judge is not None else None
    found: dict[str, list[Trace]] = {}
    for question in plan.questions:
        for key in plan.keys(question):
            state = store.state(key)
            if state is None:
                continue
            verdict = store.verdict(key, by.digest(question)) if state == "done" else None
            grade, scores = store.grades.summaries.get(key), store.scores.summaries.get(key)
            known = scores.scores if scores is not None and state == "done" else None
            decided = grade.decided if grade is not None else ""
            said = store.judgements.summaries.get(key)
            judged = said.said if said is not None and said.by == judge else None
            liked = store.rewards.summaries.get(key)
            liked = liked if liked is not None and liked.by == plan.rewarded else None
            measured = store.perplexity.summaries.get(key)
            perplexity = measured.perplexity if measured is not None else None
            found.setdefault(question.key, []).append(
                Trace(
                    key,
                    state,
                    verdict,
                    decided,
                    known,
                    perplexity=perplexity,
                    judged=judged,
                    reward=liked.reward if liked is not None else None,
                    is_unscorable=liked is not None and liked.reward is None,
                )
            )
    return found
