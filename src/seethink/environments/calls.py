"""Reads the tool call in a model's turn, which is untrusted text, and writes the answer to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seethink.environments.protocol import FINAL, Step

OPEN, CLOSE = "<tool_call>", "</tool_call>"
SAID, END = "<tool_response>", "</tool_response>"
MAX_CHARS = 1000
"""Of the JSON of a call."""


class CallError(Exception):
    """A call that cannot be carried out. The message is shown to the model, so that it quotes nothing of the call."""


@dataclass(frozen=True, slots=True)
class Call:
    """`{"name": ..., "arguments": {...}}`"""

    name: str
    arguments: dict[str, Any]


def read_call(text: str) -> Call | None:
    """The one call of a turn; None where it holds none. Raises CallError.

    >>> read_call('So <tool_call>{"name": "zoom", "arguments": {"box": [0, 0, 500, 500]}}</tool_call>')
    Call(name='zoom', arguments={'box': [0, 0, 500, 500]})
    """
    _, opened, rest = text.partition(OPEN)
    if not opened:
        return None
    written, closed, after = rest.partition(CLOSE)
    if not closed:
        raise CallError(f"the call does not end with {CLOSE}")
    if OPEN in written or OPEN in after:
        raise CallError("several calls in one turn; write one")
    if len(written) > MAX_CHARS:
        raise CallError(f"the call is longer than {MAX_CHARS} characters")
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        raise CallError("the call is not JSON") from None
    if not isinstance(found, dict) or found.keys() != {"name", "arguments"}:
        raise CallError('a call is a JSON object of "name" and "arguments"')
    if not isinstance(found["name"], str) or not isinstance(found["arguments"], dict):
        raise CallError('"name" is a text and "arguments" is a JSON object')
    return Call(found["name"], found["arguments"])


def answer_call(text: str, name: str, use: Callable[[dict[str, Any]], Step]) -> Step:
    """What `use` makes of the arguments of a turn's call of the tool `name`; `FINAL` where the turn calls nothing.

    A call that cannot be read, or that `use` raises CallError of, is answered by an error.
    """
    try:
        call = read_call(text)
        if call is None:
            return FINAL
        if call.name != name:
            raise CallError(f"no such tool; there is {name}")
        return use(call.arguments)
    except CallError as error:
        return Step(response(f"error: {error}"), failed=True)


def response(said: str) -> str:
    """The text of an answer, as the next user's turn holds it."""
    return f"{SAID}{said}{END}"


def turns_of(trace: str) -> list[str]:
    """A trace as the model's turns: a call ends a turn, and what a tool has said after it is left out.

    >>> turns_of("a<tool_call>{}</tool_call><tool_response>7</tool_response> So 7.")
    ['a<tool_call>{}</tool_call>', 'So 7.']
    """
    *calls, last = trace.split(CLOSE)
    turns = [_said_by_model(text) + CLOSE for text in calls]
    return [*turns, _said_by_model(last)] if calls else [last]


def _said_by_model(text: str) -> str:
    before, answered, after = text.partition(END)
    return after.lstrip() if answered and before.lstrip().startswith(SAID) else text.lstrip()
