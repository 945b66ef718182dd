"""Stored rollouts -> responses that can be scored again: ours by their token ids, other trainers' by their text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.types import Completion, Grade, Sample, Verdict
from seethink.data.chat import Chat
from seethink.data.images import ImageRef, check_image
from seethink.runs.reading import require_lines

TEXT = ("completion", "output", "response", "text")
"""Columns in which other trainers store the response, as text or as chat messages."""
QUESTION = ("question", "prompt", "problem", "input")


def read_rollouts(
    path: Path, chat: Chat, samples: Sequence[Sample] = ()
) -> tuple[list[Sample], list[list[Completion]]]:
    """The samples, and their responses in a JSONL file or in all `rollouts/step_*.jsonl` of a run.

    A line of ours is a group with everything that its prompt needs. A line of another trainer is one response; its
    sample is the one of `samples` with the same `id`, or else the one whose question the line's prompt contains.
    Raises UserError.
    """
    known = {sample.id: sample for sample in samples}
    found: dict[str, tuple[Sample, list[Completion]]] = {}
    for place, row, root in _rows(path):
        try:
            sample, completions = _ours(row, root, chat) if "completions" in row else _theirs(row, known, chat)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{place} cannot be read: {type(error).__name__}: {error}") from None
        found.setdefault(f"{sample.id}\n{sample.question}", (sample, []))[1].extend(completions)
    return [sample for sample, _ in found.values()], [completions for _, completions in found.values()]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """(place for messages, row, folder that image paths are relative to) of every line."""
    files = sorted((path / "rollouts").glob("step_*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} has no rollouts/step_*.jsonl: give the folder of an RL run, or a JSONL file")
    for file in files:
        for number, row in require_lines(file):
            yield f"line {number} of {file}", row, file.parent.parent


def _ours(row: dict[str, Any], root: Path, chat: Chat) -> tuple[Sample, list[Completion]]:
    sample = Sample(
        id=str(row["id"]),
        question=str(row["question"]),
        images=tuple(_image(name, root) for name in row.get("images", ())),
        answer=str(row.get("answer", "")),
        choices=tuple(map(str, row.get("choices", ()))),
        domain=str(row.get("domain", "default")),
        difficulty=str(row.get("difficulty", "normal")),
        system=str(row.get("system", "")),
    )
    return sample, [_completion(item, chat) for item in row["completions"]]


def _image(name: Any, root: Path) -> Any:
    checked = check_image(str(name), root)
    assert isinstance(checked, ImageRef)
    return checked


def _completion(item: dict[str, Any], chat: Chat) -> Completion:
    if item.get("replies"):
        raise ValueError("a conversation with a tool; only responses of one turn can be scored again")
    text, truncated = str(item["text"]), bool(item.get("truncated", False))
    grade = Grade(Verdict(item["verdict"]), item.get("extracted"), "stored") if item.get("verdict") else None
    ids = _ids(item.get("token_ids"), text, truncated=truncated, chat=chat)
    return Completion(ids, [], [], text, truncated, 0, grade=grade)


def _ids(stored: Any, text: str, *, truncated: bool, chat: Chat) -> list[int]:
    """The stored ids where this tokenizer decodes them to the text, else the text tokenized again."""
    size = len(chat.tokenizer)
    if isinstance(stored, list) and all(isinstance(i, int) and 0 <= i < size for i in stored):
        whole = stored[:-1] if stored and not truncated else stored
        if chat.decode(whole) == text:
            return stored
    ids = chat.response_ids(text)
    return ids[:-1] if truncated else ids


def _theirs(row: dict[str, Any], known: dict[str, Sample], chat: Chat) -> tuple[Sample, list[Completion]]:
    text = next((_text(row[key]) for key in TEXT if row.get(key)), None)
    if text is None:
        raise ValueError(f"a row needs `completions`, or the response in one of {', '.join(TEXT)}")
    sample = known.get(str(row.get("id", "")))
    if sample is None:
        asked = next((_text(row[key]) for key in QUESTION if row.get(key)), "")
        fitting = [s for s in known.values() if s.question and s.question in asked]
        if not fitting:
            raise ValueError(
                "its prompt is not in --data: rows are matched by `id`, or by the question in their prompt"
            )
        sample = max(fitting, key=lambda s: len(s.question))
    return sample, [_completion({"text": text, "truncated": row.get("truncated", False)}, chat)]


def _text(value: Any) -> str:
    """A text, or the text of the last of several chat messages."""
    if isinstance(value, list):
        content = value[-1]["content"]
        return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return str(value)
