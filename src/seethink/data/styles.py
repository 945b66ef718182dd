"""The column styles of seethink and of other trainers: their rows are read as they are, without conversion on disk.

Each style has a function that turns a row into neutral fields; `STYLES` lists the styles in the order in which
`columns.recognise` tries them. Where styles overlap, the order decides:

- `conversations` is VLM-R1 / LLaVA; `prompt` with `reward_model` is verl; `problem` is EasyR1; `query`, or `messages`
  with `solution`, is ms-swift; `prompt` with `solution`, `ground_truth` or `completion` is TRL.
- Every other row with `messages`, `prompt` or `question` has our own style. TRL's and ms-swift's rows with `answer`
  read the same there.
- Where a row has both, the gold is `answer` rather than `solution`, which is often worked out at length. Only ms-swift
  and VLM-R1, whose graders take `solution`, prefer that. A `solution` that states its answer in `<answer>` tags or a
  box gives that answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seethink.data.fields import Fields, Row, Style, first_filled
from seethink.data.quarantine import RowError
from seethink.data.turns import plain_text, read_turns, shown

MAX_SHORT_ANSWER = 200
"""Characters. A longer last turn of a LLaVA conversation is a description, not an answer."""
_THINK = re.compile(r"<think>", re.I)


def _seethink(row: Row, style: Style) -> Fields:
    fields = read_turns(row.get("messages") or row.get("prompt") or row.get("question"), row)
    fields.answer, fields.answer_type = first_filled(row, style.gold), row.get("answer_type")
    return _with_response(fields, _reply(row, style.reply))


def _trl(row: Row, style: Style) -> Fields:
    fields = _with_solution(read_turns(row.get("prompt"), row), first_filled(row, style.gold))
    return _with_response(fields, _reply(row, style.reply))


def _easyr1(row: Row, style: Style) -> Fields:
    fields = _with_solution(read_turns(row.get("problem"), row), first_filled(row, style.gold))
    solution = first_filled(row, ("solution",))
    trace = solution if isinstance(solution, str) and _THINK.search(solution) else None
    return _with_response(fields, _reply(row, style.reply) or trace)


def _verl(row: Row, style: Style) -> Fields:
    truth = row["reward_model"]
    if not isinstance(truth, Mapping):
        raise RowError("bad_gold", f"'reward_model' must be an object with 'ground_truth', not {type(truth).__name__}")
    answer = truth.get("ground_truth")
    if isinstance(answer, Sequence) and not isinstance(answer, str) and len(answer) == 1:
        answer = answer[0]
    fields = _with_solution(read_turns(row.get("prompt"), row), answer)
    fields.meta = {key: row[key] for key in ("data_source", "extra_info", "ability") if row.get(key) is not None}
    return fields


def _ms_swift(row: Row, style: Style) -> Fields:
    if row.get("history"):
        raise RowError("multi_turn", "'history' is not empty: only one question and its answer are supported")
    turns = row.get("messages") or row.get("query")
    fields = _with_solution(read_turns(turns, row), first_filled(row, style.gold))
    return _with_response(fields, _reply(row, style.reply))


def _vlm_r1(row: Row, style: Style) -> Fields:
    fields = _with_solution(read_turns(row.get("conversations"), row), first_filled(row, style.gold))
    reply = (fields.response or "").strip()
    is_short = reply and "\n" not in reply and len(reply) <= MAX_SHORT_ANSWER
    if fields.answer is None and is_short and not _THINK.search(reply):
        fields.answer, fields.is_solution = reply, False
    return fields


_TRL_GOLD = ("answer", "solution", "ground_truth", "gold", "target", "label")
_MS_SWIFT_GOLD = ("solution", "answer")

STYLES: tuple[Style, ...] = (
    Style("vlm-r1", "VLM-R1 / LLaVA", (("conversations",),), ("solution", "answer"), (), _vlm_r1),
    Style("verl", "verl", (("prompt",), ("reward_model",)), ("reward_model",), (), _verl),
    Style("easyr1", "EasyR1", (("problem",),), ("answer", "solution"), ("response",), _easyr1),
    Style("ms-swift", "ms-swift", (("query",),), _MS_SWIFT_GOLD, ("response",), _ms_swift),
    Style("ms-swift", "ms-swift", (("messages",), ("solution",)), _MS_SWIFT_GOLD, ("response",), _ms_swift),
    Style(
        "trl",
        "TRL",
        (("prompt",), ("solution", "ground_truth", "completion")),
        _TRL_GOLD,
        ("completion", "response"),
        _trl,
    ),
    Style(
        "seethink",
        "seethink",
        (("messages", "prompt", "question"),),
        ("answer",),
        ("response",),
        _seethink,
        more=("answer_type",),
    ),
)
"""In the order in which they are tried. A style may stand here twice, with different columns."""

STATED: dict[str, Style] = {
    **{style.name: style for style in STYLES},
    # A style that `data.style` names needs only the columns that its rows cannot do without.
    "ms-swift": Style("ms-swift", "ms-swift", (("messages", "query"),), _MS_SWIFT_GOLD, ("response",), _ms_swift),
    "trl": Style("trl", "TRL", (("prompt",),), _TRL_GOLD, ("completion", "response"), _trl),
}
"""Styles by the names that `data.style` takes."""


def _with_solution(fields: Fields, answer: Any) -> Fields:
    fields.answer, fields.is_solution = answer, True
    return fields


def _with_response(fields: Fields, response: str | None) -> Fields:
    """A last assistant turn counts before a response column."""
    fields.response = fields.response if fields.response is not None else response
    return fields


def _reply(row: Row, columns: Iterable[str]) -> str | None:
    """A response column: text, or TRL's list with one assistant turn."""
    reply = first_filled(row, columns)
    if reply is None or isinstance(reply, str):
        return reply
    if isinstance(reply, Sequence) and len(reply) == 1 and isinstance(reply[0], Mapping):
        return plain_text(reply[0].get("content"), "assistant")
    raise RowError("bad_message", f"a response must be a text or one assistant turn, found {shown(reply)}")
