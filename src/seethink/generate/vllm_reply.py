"""Reads what a vLLM server answered, and trusts none of it: model output and servers are other people's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from seethink.core.errors import UserError
from seethink.core.types import Completion
from seethink.endpoint.errors import ServerError

ROUNDING = 1e-3
"""Nats that a log-prob may lie above 0."""


class StaleReply(ServerError):  # noqa: N818
    """Tokens were sampled from other weights than the current ones."""


class _Token(BaseModel):
    token_id: int
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Token]


class _Span(BaseModel):
    version: str


class _Choice(BaseModel):
    index: int
    token_ids: list[int]
    logprobs: _Logprobs
    finish_reason: str | None = None
    weight_versions: list[_Span] | None = None


class _Reply(BaseModel):
    """The fields that matter; anything else in it is ignored."""

    prompt_token_ids: list[int]
    choices: list[_Choice]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request asked for."""

    sample: str
    prompt_ids: tuple[int, ...]
    """Expanded, as our own processor makes them."""
    count: int
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    banned_ids: frozenset[int]
    vocabulary: int
    version: str


def read_reply(reply: Any, expected: Expected, policy_version: int) -> list[Completion]:
    """The completions, in their order, without their texts.

    Raises StaleReply where one is of other weights, UserError where the server reads the prompt otherwise than we do,
    which asking again would not change, and ServerError (or pydantic's ValidationError) for any other fault.
    """
    found = _Reply.model_validate(reply)
    if tuple(found.prompt_token_ids) != expected.prompt_ids:
        raise UserError(_other_prompt(found.prompt_token_ids, expected))
    choices = sorted(found.choices, key=lambda choice: choice.index)
    if [choice.index for choice in choices] != list(range(expected.count)):
        raise ServerError(f"{len(choices)} completions, where {expected.count} were asked for")
    return [_completion(choice, expected, policy_version) for choice in choices]


def _completion(choice: _Choice, expected: Expected, policy_version: int) -> Completion:
    ids, logprobs = choice.token_ids, [token.logprob for token in choice.logprobs.content]
    versions = {span.version for span in choice.weight_versions or []}
    if versions != {expected.version}:
        raise StaleReply(
            f"sampled from weights {', '.join(sorted(versions)) or 'without a version'}, not {expected.version}"
        )
    if [token.token_id for token in choice.logprobs.content] != ids:
        raise ServerError("the log-probs are those of other tokens")
    if not all(0 <= i < expected.vocabulary for i in ids) or expected.banned_ids & set(ids):
        raise ServerError("a token is outside the vocabulary, or was forbidden")
    if not all(math.isfinite(value) and value <= ROUNDING for value in logprobs):
        raise ServerError("a log-prob is not finite, or above 0")
    stopped = bool(ids) and ids[-1] in expected.stop_ids
    if not (stopped and choice.finish_reason == "stop") and len(ids) != expected.max_new_tokens:
        raise ServerError(f"a completion ended with {choice.finish_reason!r} after {len(ids)} tokens")
    return Completion(ids, logprobs, [], "", not stopped, policy_version)


def _other_prompt(ids: list[int], expected: Expected) -> str:
    ours = expected.prompt_ids
    place = next((i for i, (a, b) in enumerate(zip(ids, ours, strict=False)) if a != b), min(len(ids), len(ours)))
    return (
        f"the vLLM server reads the prompt of {expected.sample!r} as {len(ids)} tokens and seethink as {len(ours)}, "
        f"different from token {place} on: the server must serve this model with the same processor files, "
        "the options of data.image_* (--mm-processor-kwargs, docs/scale.md), and a transformers version that expands "
        "images alike"
    )
