"""A reward model scores the right traces, pictures included (paper 2). Scores are stored and decide nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.coldstart.questions import Question
from seethink.coldstart.records import Records
from seethink.coldstart.shown import content
from seethink.config.reward_model import RewardModelConfig
from seethink.core.console import progress_bar
from seethink.endpoint.batch import Outcome, Request, State, ask_all
from seethink.endpoint.chat import Message

FILE = "rewards.jsonl"


@dataclass(frozen=True, slots=True)
class StoredReward:
    by: str
    reward: float | None
    """None where the model cannot read the trace: it is too long, or holds one of the template's own tokens."""


def server_identity(config: RewardModelConfig) -> str:
    """What a server's score depends on besides the trace."""
    return f"{config.model} {config.route} raw"


def read_stored(record: Mapping[str, Any]) -> StoredReward:
    return StoredReward(record["by"], None if record["reward"] is None else float(record["reward"]))


def is_scored(key: str, by: str, stored: Records[StoredReward]) -> bool:
    """Whether the trace of this key has a score of the reward model of identity `by`."""
    known = stored.summaries.get(key)
    return known is not None and known.by == by


def score_by_model(
    config: RewardModelConfig,
    folder: Path,
    traces: Sequence[tuple[str, Question, str]],
    stored: Records[StoredReward],
) -> None:
    """Score (key, question, text) that have no score of this model. What gets none is asked another time.

    Raises ServerUnusableError where the server cannot be reached or gives no single number.
    """
    by = server_identity(config)
    waiting = [one for one in traces if not is_scored(one[0], by, stored)]
    if not waiting:
        return
    requests = (Request(key, messages(question, folder, text)) for key, question, text in waiting)
    with progress_bar("reward model", len(waiting)) as advance:
        for outcome in ask_all(config, requests, role="reward model", total=len(waiting)):
            if (reward := _reward(outcome)) is not None:
                stored.add({"key": outcome.key, "by": by, "reward": reward})
            advance(1, "")


def messages(question: Question, folder: Path, trace: str) -> list[Message]:
    """The question as a teacher has it, and the trace as its answer. It has no gold answer."""
    sample = question.asked(None)
    system = [Message(role="system", content=sample.system)] if sample.system else []
    user = Message(role="user", content=content(question, sample, folder))
    return [*system, user, Message(role="assistant", content=trace)]


def _reward(outcome: Outcome) -> float | None:
    if outcome.state is not State.ANSWERED or outcome.reply is None:
        return None
    return float(outcome.reply.text)
