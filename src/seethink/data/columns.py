"""The peers' column styles: their rows are read as they are, nothing is converted on disk.

A style says how it is recognised and turns a row into neutral fields (`Fields`). Recognition goes by the columns of the
first rows, in the order of STYLES, and `data.style` overrides it. Where styles overlap, the order decides:

- `conversations` is VLM-R1 / LLaVA; `prompt` with `reward_model` is verl; `problem` is EasyR1; `query`, or `messages`
  with `solution`, is ms-swift; `prompt` with `solution`, `ground_truth` or `completion` is TRL.
- Everything else with `prompt` or `messages` is our own. TRL's and ms-swift's rows with `answer` read the same there.
- Where a row has both, `answer` is the gold rather than `solution`, which is often worked out at length; only ms-swift
  and VLM-R1, whose graders take `solution`, prefer that. A `solution` that states its answer in `<answer>` tags or a
  box gives that answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seethink.data.quarantine import DataError, RowError
from seethink.rewards.grader.extract import extract

Row = Mapping[str, Any]
IMAGE_MARK = "<image>"
MAX_SHORT_ANSWER = 200
"""A longer last turn of a LLaVA conversation is a description, not an answer."""
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_THINK = re.compile(r"<think>", re.I)


@dataclass
class Fields:
    """A row in neutral fields; text may hold `<image>` marks, one an image."""

    question: str
    images: list[Any] = field(default_factory=list)
    """Sources for images.py, in the order of the marks."""
    response: str | None = None
    system: str = ""
    answer: Any = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Style:
    """One way of writing rows."""

    name: str
    title: str
    needs: tuple[tuple[str, ...], ...]
    """Of each group one column: how the style is recognised, and what a row must have."""
    gold: tuple[str, ...]
    """Columns of the gold answer, the first that is filled counts."""
    reply: tuple[str, ...]
    """Columns with a response to imitate."""
    read: Callable[[Row, Style], Fields]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(c for group in self.needs for c in group), *self.gold, *self.reply, *COMMON)))

    def missing(self, columns: Iterable[str]) -> list[str]:
        """What is not there, as `prompt or messages`."""
        present = set(columns)
        return [" or ".join(group) for group in self.needs if not present.intersection(group)]

    def expects(self) -> str:
        needs = " + ".join(" or ".join(group) for group in self.needs)
        others = [c for c in (*self.gold, *self.reply) if all(c not in group for group in self.needs)]
        return f"{self.title} ({needs}{' + ' + ' or '.join(others) if others else ''})"


COMMON = ("images", "image", "choices", "options", "system", "domain", "difficulty", "id")


# --- the functions row -> Fields, one a style


def _seethink(row: Row, style: Style) -> Fields:
    read = _from_turns(row.get("messages") or row.get("prompt"), row)
    return _with(read, answer=_first(row, style.gold), response=_reply(row, style.reply))


def _trl(row: Row, style: Style) -> Fields:
    read = _from_turns(row.get("prompt"), row)
    return _with(read, answer=_stated(_first(row, style.gold)), response=_reply(row, style.reply))


def _easyr1(row: Row, style: Style) -> Fields:
    solution = _first(row, ("solution",))
    trace = solution if isinstance(solution, str) and _THINK.search(solution) else None
    response = _reply(row, style.reply) or trace
    return _with(_from_turns(row.get("problem"), row), answer=_stated(_first(row, style.gold)), response=response)


def _verl(row: Row, style: Style) -> Fields:
    truth = row["reward_model"]
    if not isinstance(truth, Mapping):
        raise RowError("bad_gold", f"'reward_model' must be an object with 'ground_truth', not {type(truth).__name__}")
    answer = truth.get("ground_truth")
    if isinstance(answer, Sequence) and not isinstance(answer, str) and len(answer) == 1:
        answer = answer[0]
    meta = {key: row[key] for key in ("data_source", "extra_info", "ability") if row.get(key) is not None}
    return _with(_from_turns(row.get("prompt"), row), answer=_stated(answer), meta=meta)


def _ms_swift(row: Row, style: Style) -> Fields:
    if row.get("history"):
        raise RowError("multi_turn", "'history' is not empty: only one question and its answer are supported")
    turns = row.get("messages") or row.get("query")
    answer = _stated(_first(row, style.gold))
    return _with(_from_turns(turns, row), answer=answer, response=_reply(row, style.reply))


def _vlm_r1(row: Row, style: Style) -> Fields:
    read = _from_turns(row.get("conversations"), row)
    answer = _stated(_first(row, style.gold))
    reply = (read.response or "").strip()
    if answer is None and reply and not _THINK.search(reply) and "\n" not in reply and len(reply) <= MAX_SHORT_ANSWER:
        answer = reply
    return _with(read, answer=answer)


# --- the table

STYLES: tuple[Style, ...] = (
    Style("vlm-r1", "VLM-R1 / LLaVA", (("conversations",),), ("solution", "answer"), (), _vlm_r1),
    Style("verl", "verl", (("prompt",), ("reward_model",)), ("reward_model",), (), _verl),
    Style("easyr1", "EasyR1", (("problem",),), ("answer", "solution"), ("response",), _easyr1),
    Style("ms-swift", "ms-swift", (("query",),), ("solution", "answer"), ("response",), _ms_swift),
    Style("ms-swift", "ms-swift", (("messages",), ("solution",)), ("solution", "answer"), ("response",), _ms_swift),
    Style(
        "trl",
        "TRL",
        (("prompt",), ("solution", "ground_truth", "completion")),
        ("answer", "solution", "ground_truth", "gold", "target", "label"),
        ("completion", "response"),
        _trl,
    ),
    Style("seethink", "seethink", (("messages", "prompt"),), ("answer",), ("response",), _seethink),
)
"""In the order in which they are tried. A style may stand here twice, with different columns."""

STATED = {
    **{style.name: style for style in STYLES},
    # Stated outright, a style needs only what its rows cannot do without.
    "ms-swift": Style(
        "ms-swift", "ms-swift", (("messages", "query"),), ("solution", "answer"), ("response",), _ms_swift
    ),
    "trl": Style("trl", "TRL", (("prompt",),), STYLES[5].gold, STYLES[5].reply, _trl),
}


def recognise(rows: Sequence[Row], stated: str, source: str) -> Style:
    """The style of a source, from its first rows or as stated. Raises DataError that lists what each style expects."""
    columns = {name for row in rows for name, value in row.items() if value is not None}
    candidates = STYLES if stated == "auto" else (STATED[stated],)
    for style in candidates:
        if not style.missing(columns):
            return style
    found = found_columns(name for row in rows for name, value in row.items() if value is not None)
    raise DataError(f"{source}: missing columns. {expectations(stated)}; {found}. Rename them, or state data.style")


def expectations(stated: str) -> str:
    """What the columns could have been."""
    styles = STYLES if stated == "auto" else (STATED[stated],)
    return f"Expected {', '.join(dict.fromkeys(s.expects() for s in styles))}"


def found_columns(names: Iterable[Any]) -> str:
    shown = sorted({str(name)[:40] for name in names})[:30]
    return f"found columns {', '.join(shown)}" if shown else "found no columns"


def read_fields(row: Row, style: Style) -> Fields:
    """One row in neutral fields. Raises RowError."""
    absent = style.missing(name for name, value in row.items() if value is not None)
    if absent:
        raise RowError("missing_column", f"expected {', '.join(absent)}; {found_columns(row)}")
    for media in ("videos", "video", "audios", "audio"):
        if row.get(media):
            raise RowError("unsupported_media", f"the row has {media!r}; only images are supported")
    return style.read(row, style)


# --- turns and content blocks


def _from_turns(turns: Any, row: Row) -> Fields:
    """Question, response, system text and images of a prompt text or of chat turns."""
    column = _column_images(row)
    system = str(row.get("system") or "")
    if isinstance(turns, str):
        if not turns.strip():
            raise RowError("bad_message", "the question is empty")
        return Fields(turns, _place([None] * turns.count(IMAGE_MARK), column), system=system)
    said = _by_role(turns)
    marks: list[Any] = []
    question = _text(said["user"][0], marks)
    systems = [_plain_text(content, "system") for content in said["system"]]
    replies = [_plain_text(content, "assistant") for content in said["assistant"]]
    if not question.strip():
        raise RowError("bad_message", "the question is empty")
    return Fields(
        question, _place(marks, column), replies[0] if replies else None, "\n".join(systems) if systems else system
    )


def _by_role(turns: Any) -> dict[str, list[Any]]:
    """Contents by role; exactly one question, and at most one answer after it."""
    if not isinstance(turns, Sequence) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError("bad_message", f"expected a text or a list of turns, found {_shown(turns)}")
    said: dict[str, list[Any]] = {"system": [], "user": [], "assistant": []}
    order: list[str] = []
    for turn in turns:
        name = turn.get("role") or turn.get("from")
        role = _ROLES.get(str(name).lower())
        if role is None:
            raise RowError("bad_message", f"unknown role {_shown(name)}; expected {', '.join(_ROLES)}")
        order.append(role)
        said[role].append(turn["content"] if turn.get("content") is not None else turn.get("value"))
    users, assistants = len(said["user"]), len(said["assistant"])
    if users > 1 or assistants > 1:
        raise RowError("multi_turn", f"expected one user turn and its answer, found {users} and {assistants}")
    if users == 0:
        raise RowError("bad_message", "expected one user turn, found 0")
    if assistants and order.index("assistant") < order.index("user"):
        raise RowError("bad_message", "the assistant speaks before the user")
    return said


def _text(content: Any, marks: list[Any]) -> str:
    """The text of a turn; into `marks` goes an entry for each `<image>`: the image itself, or None."""
    if isinstance(content, str):
        marks += [None] * content.count(IMAGE_MARK)
        return content
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Sequence):
        raise RowError("bad_message", f"message content must be text or a list of parts, not {type(content).__name__}")
    return "".join(_block(block, marks) for block in content)


def _block(block: Any, marks: list[Any]) -> str:
    """One content block of OpenAI's, Anthropic's or transformers' kind."""
    if isinstance(block, str):
        return _text(block, marks)
    if not isinstance(block, Mapping):
        raise RowError("bad_message", f"a content block must be an object, not {type(block).__name__}")
    kind = block.get("type") or ("text" if block.get("text") is not None else "image" if _payload(block) else None)
    if kind in ("text", "input_text", "output_text"):
        return _text(str(block.get("text") or ""), marks)
    if kind in ("image", "image_url", "input_image"):
        marks.append(_payload(block))
        return IMAGE_MARK
    if kind in ("video", "video_url", "audio", "input_audio", "audio_url"):
        raise RowError("unsupported_media", f"the message has a block of type {kind!r}; only images are supported")
    raise RowError("bad_message", f"unknown content block of type {_shown(kind)}")


def _payload(block: Mapping[str, Any]) -> Any:
    """What an image block carries, or None where it only marks the place."""
    carried = next((block[key] for key in _CARRIERS if block.get(key)), None)
    if isinstance(carried, Mapping):
        if carried.get("type") == "base64" or carried.get("data"):  # Anthropic's source
            return f"data:{carried.get('media_type') or ''};base64,{carried.get('data') or ''}"
        return carried.get("url") or (dict(carried) if carried.get("bytes") or carried.get("path") else None)
    return carried


_CARRIERS = ("image_url", "source", "image", "url", "path", "base64", "bytes")


def _plain_text(content: Any, role: str) -> str:
    marks: list[Any] = []
    text = _text(content, marks) if not isinstance(content, str) else content
    if marks:
        raise RowError("bad_message", f"the {role} turn holds an image; only the user's may")
    return text


def _place(marks: list[Any], column: list[Any]) -> list[Any]:
    """The images in the order of their marks: those in the blocks, the others from the column. Raises RowError."""
    if not marks:
        return column
    empty = sum(mark is None for mark in marks)
    if empty != len(column):
        inside = f" ({len(marks) - empty} more carry their image)" if empty < len(marks) else ""
        raise RowError(
            "image_count", f"the question has {empty} <image> marks{inside} but there are {len(column)} images"
        )
    rest = iter(column)
    return [next(rest) if mark is None else mark for mark in marks]


def _column_images(row: Row) -> list[Any]:
    """`images` (a list, or one) or `image`."""
    images = row.get("images") if row.get("images") is not None else row.get("image")
    if images is None:
        return []
    return list(images) if isinstance(images, list | tuple) else [images]


# --- answers and responses


def _first(row: Row, columns: Iterable[str]) -> Any:
    return next((row[c] for c in columns if row.get(c) is not None and row.get(c) != ""), None)


def _stated(gold: Any) -> Any:
    """A gold that is a whole solution gives the answer in its tags or box; other golds stay as they are."""
    if not isinstance(gold, str):
        return gold
    if not re.search(r"<answer>|\\boxed|\\fbox", gold):
        return gold
    statement = extract(gold)
    if statement is None or statement.kind not in ("box", "tag"):
        return gold
    return ", ".join(statement.boxes) or statement.text


def _reply(row: Row, columns: Iterable[str]) -> str | None:
    """A response column: text, or TRL's list with one assistant turn."""
    reply = _first(row, columns)
    if reply is None or isinstance(reply, str):
        return reply
    if isinstance(reply, Sequence) and len(reply) == 1 and isinstance(reply[0], Mapping):
        return _plain_text(reply[0].get("content"), "assistant")
    raise RowError("bad_message", f"a response must be a text or one assistant turn, found {_shown(reply)}")


def _with(fields: Fields, *, answer: Any, response: str | None = None, meta: dict[str, Any] | None = None) -> Fields:
    fields.answer, fields.meta = answer, meta or {}
    # A last assistant turn counts before a response column.
    fields.response = fields.response if fields.response is not None else response
    return fields


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)[:60]
    return f"{type(value).__name__}"
