"""Raw rows -> samples whose images decode, or what is wrong with the row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seethink.config import ReadConfig
from seethink.core.types import Sample
from seethink.data.columns import read_fields
from seethink.data.fields import IMAGE_COLUMNS, IMAGE_MARK, Fields, Row, Style, filled, found_columns
from seethink.data.files import RawRow
from seethink.data.image_columns import place_numbered, read_columns, unread_columns
from seethink.data.image_store import ImageStore
from seethink.data.images import check_image
from seethink.data.quarantine import Problem, RowError, problem

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Of the choices, in their order."""


class ReadGold(Protocol):
    """Turns the gold answer of a row into the gold of a sample: `seethink.rewards.golds.read_gold`.

    The caller hands it in, because only the grader, which lies above this package, knows which golds can be graded.
    """

    def __call__(
        self, gold: str | float, answer_type: str | None, choices: tuple[str, ...], *, is_solution: bool
    ) -> str:
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
        """The sample of a row, or its problem. A bad row raises nothing."""
        if isinstance(raw.data, RowError):
            return RowResult(raw.file, raw.row, None, problem=problem(raw.file, raw.row, raw.default_id, raw.data))
        try:
            sample = self.to_sample(raw.data, raw.default_id)
        except RowError as error:
            columns = tuple(column for column in self.style.columns if raw.data.get(column) is not None)
            found = problem(raw.file, raw.row, raw.data.get("id") or raw.default_id, error)
            return RowResult(raw.file, raw.row, self.style, columns, problem=found)
        sample.meta.update(file=raw.file, row=raw.row)
        columns = self.columns(raw.data)
        return RowResult(raw.file, raw.row, self.style, columns, tuple(unread_columns(raw.data, columns)), sample)

    def columns(self, row: Row) -> tuple[str, ...]:
        """The columns that are read of a row, those of its images among them. Raises RowError."""
        images = read_columns(row)
        of_style = (c for c in self.style.columns if row.get(c) is not None and (c in images or c not in IMAGE_COLUMNS))
        return tuple(dict.fromkeys((*of_style, *images)))

    def to_sample(self, row: Row, default_id: str) -> Sample:
        """One row -> Sample. Raises RowError with what was expected and found."""
        fields = read_fields(row, self.style)
        question, choices, images = place_numbered(fields.question, _choices(row), fields.images)
        answer = self._answer(fields, choices)
        self._require_answer(answer, fields, row)
        _check_marks((question, *choices), len(images))
        unread = [] if images else unread_columns(row, self.columns(row))
        if unread:
            raise RowError(
                "unread_images",
                f"the row's images are in {', '.join(map(repr, unread))}, which is not read; rename it to 'images'",
            )
        difficulty = row.get("difficulty") or _inside(fields.meta.get("extra_info"), "difficulty")
        return Sample(
            id=str(row.get("id") or default_id),
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
            domain=str(row.get("domain") or fields.meta.get("data_source") or "default"),
            difficulty=str(difficulty or "normal"),
            response=fields.response,
            meta=fields.meta,
            system=fields.system,
        )

    def _answer(self, fields: Fields, choices: tuple[str, ...]) -> str:
        """The gold answer: a letter where there are choices, "" where the row has no gold."""
        gold, answer_type = fields.answer, fields.answer_type
        if answer_type is not None and not isinstance(answer_type, str):
            found = type(answer_type).__name__
            raise RowError("bad_answer_type", f"'answer_type': expected the name of a type, found {found}")
        if gold is None or gold == "":
            return ""
        if not isinstance(gold, str | int | float):
            raise RowError("bad_gold", f"gold answer: expected text or a number, found {type(gold).__name__}")
        if (isinstance(gold, float) and math.isnan(gold)) or not str(gold).strip():
            raise RowError("empty_gold", f"gold answer: expected text or a number, found {gold!r}")
        return self.golds(gold, answer_type, choices, is_solution=fields.is_solution)

    def _require_answer(self, answer: str, fields: Fields, row: Row) -> None:
        """RL and evaluation need a gold answer, SFT a response or an answer."""
        if answer or (fields.response and not self.graded):
            return
        style = self.style
        needs = "a non-empty 'answer'" + ("" if self.graded else " (for RL and evaluation) or a 'response' (for SFT)")
        wanted = style.gold if self.graded else (*style.gold, *style.reply)
        if wanted and all(row.get(column) is None for column in wanted):
            found = found_columns(filled(row))
            raise RowError("missing_column", f"{style.title} columns need {needs}: {' or '.join(wanted)}; {found}")
        raise RowError("empty_gold", f"needs {needs}")


def _check_marks(texts: Sequence[str], images: int) -> None:
    marks = sum(text.count(IMAGE_MARK) for text in texts)
    if marks and marks != images:
        raise RowError("image_count", f"the question has {marks} <image> marks but there are {images} images")


def _choices(row: Row) -> tuple[str, ...]:
    options = row.get("choices") or row.get("options") or ()
    if isinstance(options, dict):  # {"A": "red", "B": "blue"}; Parquet fills absent letters with None
        options = [options[letter] for letter in LETTERS if options.get(letter) is not None]
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise RowError("bad_choices", f"'choices' must be a list of texts, not the text {str(options)[:40]!r}")
    choices = tuple(str(choice) for choice in options)
    if len(choices) > len(LETTERS):
        raise RowError("bad_choices", f"{len(choices)} choices; at most {len(LETTERS)} have a letter")
    return choices


def _inside(table: Any, key: str) -> Any:
    return table.get(key) if isinstance(table, dict) else None
