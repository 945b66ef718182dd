"""The first screen of a pipeline's page: one question that reinforcement learning has turned from wrong to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seethink.report.load import Run
from seethink.report.rollouts import Rollouts

Group = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response in pieces, each a text and whether a critical word begins it."""

    stage: str
    verdict: str
    pieces: list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Story:
    """One question, a response before RL and one after, and how typical such a change is."""

    question: str
    choices: list[str]
    answer: str
    images: list[str]
    """Data URIs."""
    before: Reply
    after: Reply
    asked: int
    """Questions of the evaluation that both stages answered and the page carries."""
    gained: int
    """Of these: wrong before, right after. Of each question the first response counts."""
    lost: int
    """Of these: right before, wrong after."""


def story(run: Run, rollouts: Rollouts) -> Story | None:
    """The story of the last RL stage that was evaluated on questions of an earlier stage; None without one.

    Of the questions that became right it takes one without options, where few are right by luck, and of these one whose
    right response thinks again at a critical word. Among equals it takes the one with the fewest tokens.
    """
    ends = _ends(run)
    if ends is None:
        return None
    pairs = list(_pairs(rollouts, *ends))
    gained = [pair for pair in pairs if _right(pair[1]) and not _right(pair[0])]
    if not gained:
        return None
    before, after = min(gained, key=lambda pair: _telling(pair[1]))
    return Story(
        question=after["question"],
        choices=after["choices"],
        answer=after["answer"],
        images=[rollouts.album.uris[place] for place in after["images"] if isinstance(place, int)],
        before=_reply(ends[0], _first(before)),
        after=_reply(ends[1], _first(after)),
        asked=len(pairs),
        gained=len(gained),
        lost=sum(_right(one) and not _right(other) for one, other in pairs),
    )


def _ends(run: Run) -> tuple[str, str] | None:
    """The names of the last RL stage and of the stage before it."""
    trained = [place for place, stage in enumerate(run.stages) if place and stage.kind == "rl"]
    return (run.stages[trained[-1] - 1].name, run.stages[trained[-1]].name) if trained else None


def _pairs(rollouts: Rollouts, before: str, after: str) -> Iterator[tuple[Group, Group]]:
    """The groups of both evaluations that ask the same."""
    one, other = (
        {group["id"]: group for group in rollouts.groups if group["source"] == f"{name} · evaluation"}
        for name in (before, after)
    )
    for key, group in other.items():
        if key and key in one and one[key]["completions"] and group["completions"]:
            yield one[key], group


def _first(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = group["completions"][0]
    return found


def _right(group: Group) -> bool:
    return bool(_first(group)["verdict"] == "correct")


def _telling(group: Group) -> tuple[bool, bool, int]:
    """The lower, the more a group's first response shows."""
    first = _first(group)
    return bool(group["choices"]), not _thinks_again(first), len(first["tokens"])


def _thinks_again(completion: dict[str, Any]) -> bool:
    return any(0 < place < len(completion["tokens"]) - 1 for place in completion["critical"])


def _reply(stage: str, completion: dict[str, Any]) -> Reply:
    tokens, places = completion["tokens"], {0, *completion["critical"]}
    starts = sorted(place for place in places if place < len(tokens))
    ends = [*starts[1:], len(tokens)]
    marked = set(completion["critical"])
    pieces = [("".join(tokens[a:b]), a in marked) for a, b in zip(starts, ends, strict=True)]
    return Reply(stage, completion["verdict"], pieces)
