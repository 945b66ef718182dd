"""Raw rows -> samples whose images decode, or what is wrong with the row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from seethink.config import ReadConfig
from seethink.core.types import Sample, VideoRef
from seethink.data.columns import read_fields
from seethink.data.fields import (
    IMAGE_COLUMNS,
    IMAGE_MARK,
    VIDEO_COLUMNS,
    VIDEO_MARK,
    Fields,
    Row,
    Style,
    filled,
    found_columns,
)
from seethink.data.files import RawRow
from seethink.data.image_columns import image_in_text, place_numbered, read_columns, unread_columns
from seethink.data.image_store import ImageStore
from seethink.data.images import check_image
from seethink.data.options import Options, letter_columns, read_options
from seethink.data.quarantine import DataError, Problem, RowError, escaped, problem
from seethink.data.values import broken_character, is_empty
from seethink.data.video_columns import video_column
from seethink.data.video_files import DecoderError
from seethink.data.videos import check_video

MAX_SHORT_ANSWER = 200
"""Characters. A longer reply that does not mark its answer is a description."""
_MARKED_ANSWER = re.compile(r"<answer>|\\boxed|\\fbox", re.I)


class ReadGold(Protocol):
    """Turns the gold answer of a row into the gold of a sample: `seethink.rewards.golds.read_gold`.

    The caller hands it in, because only the grader, which lies above this package, knows which golds can be graded.
    """

    def __call__(self, gold: Any, answer_type: str | None, choices: tuple[str, ...], question: str) -> str:
        """The answer as text, or its letter where there are `choices`. Raises RowError."""
        ...


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row: a sample whose images decode, or what is wrong with it."""

    file: str
    row: int
    style: Style | None
    """How its columns were read; None for the world and for a row that is not JSON."""
    columns: tuple[str, ...] = ()
    """The columns that the row has and the style reads."""
    unread_images: tuple[str, ...] = ()
    """The columns of a good row that hold images besides those that were read."""
    sample: Sample | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads the rows of one source. Safe from several threads."""

    style: Style
    root: Path | None
    """The folder that image paths are relative to and confined in; None where there is none."""
    config: ReadConfig
    golds: ReadGold
    graded: bool = False
    """Whether a row without a gold answer is bad, as in RL and evaluation."""
    store: ImageStore | None = None
    """Where encoded images that are no files of their own are kept; None: in memory."""

    def read(self, raw: RawRow) -> RowResult:
        """The sample of a row, or its problem. A bad row raises nothing; DataError where a decoder is missing."""
        if isinstance(raw.data, RowError):
            return RowResult(raw.file, raw.row, None, problem=problem(raw.file, raw.row, raw.default_id, raw.data))
        try:
            sample = self.to_sample(raw.data, raw.default_id)
        except RowError as error:
            columns = tuple(column for column in self.style.columns if raw.data.get(column) is not None)
            found = problem(raw.file, raw.row, raw.data.get("id") or raw.default_id, error)
            return RowResult(raw.file, raw.row, self.style, columns, problem=found)
        except DecoderError as error:
            raise DataError(f"{escaped(raw.file)}, row {raw.row}: {error}") from None
        sample.meta.update(file=escaped(raw.file), row=raw.row)
        columns = self.columns(raw.data)
        unread = tuple(unread_columns(raw.data, columns)) if sample.images else ()  # without, to_sample has looked
        return RowResult(raw.file, raw.row, self.style, columns, unread, sample)

    def columns(self, row: Row) -> tuple[str, ...]:
        """The columns that are read of a row, those of its images and videos among them. Raises RowError."""
        images = read_columns(row)
        media, read = (*IMAGE_COLUMNS, *VIDEO_COLUMNS), (*images, video_column(row))
        of_style = (c for c in self.style.columns if row.get(c) is not None and (c in read or c not in media))
        return tuple(dict.fromkeys((*of_style, *images, *letter_columns(row))))

    def to_sample(self, row: Row, default_id: str) -> Sample:
        """The sample of one row. Raises RowError."""
        options = read_options(row)
        try:
            fields = read_fields(row, self.style)
            question, choices, images = place_numbered(fields.question, options.shown, fields.images)
            _check_marks((question, *choices), len(images))
            if fields.videos:
                _check_marks((question, *choices), len(fields.videos), "video")
        except RowError as error:
            if error.reason == "image_count":
                self._refuse_unread_images(row, "")
            raise
        answer = self._answer(fields, options, row)
        if not images:
            self._refuse_unread_images(row, question)
        sample = Sample(
            id=_label(default_id, row.get("id")),
            question=question,
            images=tuple(
                check_image(
                    image,
                    self.root,
                    max_pixels=self.config.max_pixels,
                    allow_urls=self.config.allow_urls,
                    store=self.store,
                )
                for image in images
            ),
            answer=answer,
            choices=choices,
            answer_type=fields.answer_type,
            domain=_label("default", row.get("domain"), fields.meta.get("data_source")),
            difficulty=_label("normal", row.get("difficulty"), _inside(fields.meta.get("extra_info"), "difficulty")),
            response=fields.response,
            meta=fields.meta,
            system=fields.system,
            videos=self._videos(fields.videos, row),
        )
        texts = {
            name: getattr(sample, name) for name in ("id", "question", "system", "response", "domain", "difficulty")
        }
        _refuse_broken_text({**texts, "choices": "".join(choices)})
        return sample

    def _videos(self, sources: Sequence[Any], row: Row) -> tuple[VideoRef, ...]:
        """The row's videos, their sampled frames decoded once. Raises RowError, which names the column."""
        found: list[VideoRef] = []
        for number, source in enumerate(sources, start=1):
            try:
                found.append(check_video(source, self.root, self.config, self.store))
            except RowError as error:
                where = f"{video_column(row) or 'messages'!r}, video {number}"
                raise RowError(error.reason, f"{where}: {error}") from None
        return tuple(found)

    def _refuse_unread_images(self, row: Row, question: str) -> None:
        """A row without an image that is read may have none elsewhere: it would be trained on its text alone."""
        unread = unread_columns(row, self.columns(row), self.root)
        if unread:
            raise RowError(
                "unread_images",
                f"the row's images are in {', '.join(map(repr, unread))}, which is not read; rename it to 'images'",
            )
        named = image_in_text(question)
        if named is not None:
            said = f"the question names the image {named[:80]!r} in its text; write <image> there, and it in 'images'"
            raise RowError("unread_images", said)

    def _answer(self, fields: Fields, options: Options, row: Row) -> str:
        """The gold answer: a letter where there are options, "" where the row has no gold. Raises RowError."""
        answer_type = fields.answer_type
        if answer_type is not None and not isinstance(answer_type, str):
            found = type(answer_type).__name__
            raise RowError("bad_answer_type", f"'answer_type': expected the name of a type, found {found}")
        gold, column = fields.answer, fields.answer_column
        if is_empty(gold) and self.graded and fields.reply:
            gold, column = _short_reply(fields.reply), "the assistant's reply"
        if is_empty(gold):
            self._refuse_missing_answer(fields, row)
            return ""
        _refuse_broken_text({column: gold})
        try:
            return self.golds(gold, answer_type, options.texts, fields.question)
        except RowError as error:
            raise RowError(error.reason, f"{column!r}: {error}") from None

    def _refuse_missing_answer(self, fields: Fields, row: Row) -> None:
        """RL and evaluation need a gold answer, SFT a response or an answer. Raises RowError without."""
        if fields.response and not self.graded:
            return
        style = self.style
        needs = "a non-empty 'answer'" + ("" if self.graded else " (for RL and evaluation) or a 'response' (for SFT)")
        wanted = style.gold if self.graded else (*style.gold, *style.reply)
        if all(row.get(column) is None for column in wanted):
            found = found_columns(filled(row))
            raise RowError("missing_column", f"{style.title} columns need {needs}: {' or '.join(wanted)}; {found}")
        raise RowError("empty_gold", f"{fields.answer_column!r} is empty: the row needs {needs}")


def _short_reply(reply: str | None) -> str | None:
    """The reply of a conversation as its gold answer: one that marks its answer, or a short one without thinking."""
    text = (reply or "").rpartition("</think>")[2].strip()
    is_short = "\n" not in text and len(text) <= MAX_SHORT_ANSWER and "<think" not in text.lower()
    return text if is_short or _MARKED_ANSWER.search(text) else None


def _check_marks(texts: Sequence[str], count: int, kind: Literal["image", "video"] = "image") -> None:
    mark = IMAGE_MARK if kind == "image" else VIDEO_MARK
    marks = sum(text.count(mark) for text in texts)
    if marks and marks != count:
        both = any(mark in text for text in texts[1:])
        has = "the question and its choices have" if both else "the question has"
        raise RowError(f"{kind}_count", f"{has} {marks} {mark} marks but there are {count} {kind}s")


def _refuse_broken_text(texts: dict[str, Any]) -> None:
    """Raises RowError for the first text by name that no tokenizer takes."""
    for name, text in texts.items():
        broken = broken_character(text) if isinstance(text, str) else None
        if broken is not None:
            said = f"{name!r} holds {broken}, half of a character; write the text again with whole ones"
            raise RowError("broken_text", said)


def _label(default: str, *values: Any) -> str:
    """The first value that is not empty, as text."""
    return next((str(value) for value in values if not is_empty(value)), default)


def _inside(table: Any, key: str) -> Any:
    return table.get(key) if isinstance(table, dict) else None
