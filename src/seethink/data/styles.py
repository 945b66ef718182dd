"""The column styles of seethink and of other trainers: their rows are read as they are, without conversion on disk.

Each style has a function that turns a row into neutral fields; `STYLES` lists the styles in the order in which
`columns.recognise` tries them. Where styles overlap, the order decides:

- `conversations` is VLM-R1 / LLaVA; `prompt` with `reward_model` is verl; `problem` is EasyR1; `query`, or `messages`
  with `solution`, is ms-swift; `prompt` with `solution`, `ground_truth` or `completion` is TRL.
- Every other row with `messages`, `prompt` or `question` has our own style. TRL's and ms-swift's rows with `answer`
  read the same there.
- Where a row has both, the gold is `answer` rather than `solution`, which is often worked out at length. Only ms-swift
  and VLM-R1, whose graders take `solution`, prefer that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seethink.core.thinking import thinks
from seethink.data.fields import Fields, Row, Style, first_filled
from seethink.data.quarantine import RowError
from seethink.data.turns import plain_text, read_turns
from seethink.data.values import chat_from_json, from_json, is_empty, shown


def _seethink(row: Row, style: Style) -> Fields:
    fields = _with_gold(read_turns(row, "messages", "prompt", "question"), row, style)
    fields.answer_type = row.get("answer_type")
    return _with_response(fields, _reply(row, style.reply))


def _trl(row: Row, style: Style) -> Fields:
    return _with_response(_with_gold(read_turns(row, "prompt"), row, style), _reply(row, style.reply))


def _easyr1(row: Row, style: Style) -> Fields:
    fields = _with_gold(read_turns(row, "problem"), row, style)
    solution = row.get("solution")
    trace = solution if isinstance(solution, str) and thinks(solution) else None
    return _with_response(fields, _reply(row, style.reply) or trace)


def _verl(row: Row, style: Style) -> Fields:
    truth = from_json(row["reward_model"])
    if not isinstance(truth, Mapping):
        raise RowError("bad_gold", f"'reward_model' must be an object with 'ground_truth', not {type(truth).__name__}")
    fields = read_turns(row, "prompt")
    fields.answer, fields.answer_column = truth.get("ground_truth"), "reward_model.ground_truth"
    fields.meta = {key: row[key] for key in ("data_source", "extra_info", "ability") if row.get(key) is not None}
    return fields


def _ms_swift(row: Row, style: Style) -> Fields:
    if not is_empty(row.get("history")):
        raise RowError("multi_turn", "'history' is not empty: only one question and its answer are supported")
    fields = _with_response(_with_gold(read_turns(row, "messages", "query"), row, style), _reply(row, style.reply))
    fields.reply = fields.response
    return fields


def _vlm_r1(row: Row, style: Style) -> Fields:
    return _with_gold(read_turns(row, "conversations"), row, style)


_GOLD = ("answer", "solution", "ground_truth", "gold")
_TRL_GOLD = (*_GOLD, "target", "label")
_SOLUTION_FIRST = ("solution", "answer", "ground_truth", "gold")

STYLES: tuple[Style, ...] = (
    Style("vlm-r1", "VLM-R1 / LLaVA", (("conversations",),), _SOLUTION_FIRST, (), _vlm_r1),
    Style("verl", "verl", (("prompt",), ("reward_model",)), ("reward_model",), (), _verl),
    Style("easyr1", "EasyR1", (("problem",),), _GOLD, ("response",), _easyr1),
    Style("ms-swift", "ms-swift", (("query",),), _SOLUTION_FIRST, ("response",), _ms_swift),
    Style("ms-swift", "ms-swift", (("messages",), ("solution",)), _SOLUTION_FIRST, ("response",), _ms_swift),
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
        _GOLD,
        ("response",),
        _seethink,
        more=("answer_type",),
    ),
)
"""In the order in which they are tried. A style may stand here twice, with different columns."""

STATED: dict[str, Style] = {
    **{style.name: style for style in STYLES},
    # A style that `data.style` names needs only the columns that its rows cannot do without.
    "ms-swift": Style("ms-swift", "ms-swift", (("messages", "query"),), _SOLUTION_FIRST, ("response",), _ms_swift),
    "trl": Style("trl", "TRL", (("prompt",),), _TRL_GOLD, ("completion", "response"), _trl),
}
"""Styles by the names that `data.style` takes."""


def _with_gold(fields: Fields, row: Row, style: Style) -> Fields:
    fields.answer_column, fields.answer = first_filled(row, style.gold)
    return fields


def _with_response(fields: Fields, response: str | None) -> Fields:
    """A last assistant turn counts before a response column."""
    fields.response = fields.response if fields.response is not None else response
    return fields


def _reply(row: Row, columns: tuple[str, ...]) -> str | None:
    """A response column: text, or TRL's list with one assistant turn."""
    name, value = first_filled(row, columns)
    reply = chat_from_json(value, repr(name))
    if is_empty(reply):
        return None
    if isinstance(reply, str):
        return reply
    if isinstance(reply, Sequence) and len(reply) == 1 and isinstance(reply[0], Mapping):
        return plain_text(reply[0].get("content"), "assistant")
    raise RowError("bad_message", f"{name!r}: a response must be a text or one assistant turn, found {shown(reply)}")
