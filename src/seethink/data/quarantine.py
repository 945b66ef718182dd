"""Bad rows are counted, written to quarantine.jsonl and left out; only too many of them stop a run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.core.redact import visible
from seethink.data.advice import ADVICE

REASONS: dict[str, str] = {
    "not_json": "not JSON",
    "bad_member": "bad archive member",
    "missing_column": "missing column",
    "bad_message": "bad message",
    "multi_turn": "several turns",
    "unsupported_media": "audio",
    "image_count": "image count",
    "unread_images": "images in a column that is not read",
    "image_source": "no image source",
    "image_missing": "missing image",
    "image_outside_root": "image outside the data folder",
    "image_address": "image address",
    "image_unreadable": "unreadable image",
    "image_too_large": "too large image",
    "image_aspect": "too long and thin image",
    "video_count": "video count",
    "video_source": "no video source",
    "video_missing": "missing video",
    "video_unreadable": "unreadable video",
    "video_too_large": "too large video",
    "empty_gold": "empty answer",
    "bad_gold": "bad answer",
    "bad_answer_type": "unknown answer type",
    "bad_choices": "bad choices",
    "gold_outside_choices": "answer outside the choices",
    "broken_text": "broken text",
    "special_token": "special token",
    "prompt_refused": "prompt refused by the processor",
    "prompt_beyond_model": "prompt beyond the model's positions",
    "prompt_too_long": "too long prompt",
}
"""Every reason with its words in a summary. The reasons are stable: tools may match on them."""

FILE = "quarantine.jsonl"

LEFT_OUT = ("prompt_too_long",)
"""Reasons that follow from the recipe: such rows are left out without being bad."""

MAX_DETAIL = 240
_URL_USER = re.compile(r"://[^/\s@'\"]*@")


class DataError(UserError):
    """Data that cannot be used; the message names the file and the row, and says what to do."""


class RowError(UserError):
    """A bad row: `reason` is a key of REASONS, and the message is the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that is left out.

    Example: `Problem("data/x.jsonl", 17, "x-17", "image_unreadable", "'a.png' cannot be decoded: truncated")`
    """

    file: str
    row: int
    """From 1: the line of a JSONL file, else the row's number in its file."""
    id: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.detail}"


def problem(file: str, row: int, id: object, error: RowError) -> Problem:
    """The record of a RowError. Whatever the data hold, its detail is short and has no user name of an address."""
    detail = _URL_USER.sub("://", " ".join(escaped(str(error)).split()))
    return Problem(escaped(file), row, escaped(str(id))[:MAX_DETAIL], error.reason, _shortened(detail))


def escaped(text: str) -> str:
    """Halves of characters and bytes of file names that are not UTF-8 as escapes, so that every file can hold them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_DETAIL else f"{text[: MAX_DETAIL - 1]}…"


def advice(problems: Sequence[Problem]) -> str:
    """What to do about rows, by the reason that most of them share."""
    ((reason, _),) = Counter(p.reason for p in problems).most_common(1)
    return f"{REASONS[reason].capitalize()}: {ADVICE[reason]}"


class Quarantine:
    """The rows that one command leaves out, over all its sources. With a `path`, they are written to that file."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: Counter[str] = Counter()
        self._bad: dict[str, list[Problem]] = {}
        self._started = False

    def knows(self, source: str) -> bool:
        """Whether rows of the source have been counted before."""
        return source in self._rows

    def report(self, source: str, problems: Sequence[Problem], max_bad_share: float, *, rows: int = 0) -> None:
        """Write the problems and print their summary. `rows` counts the rows newly read, good and bad.

        Raises DataError where more than `max_bad_share` of the source's rows so far are bad.
        """
        self._write(problems)
        self._rows[source] += rows
        if not problems:
            return
        bad = self._bad.setdefault(source, [])
        bad += [p for p in problems if p.reason not in LEFT_OUT]
        self._say(problems, self._rows[source])
        if len(bad) > max_bad_share * self._rows[source]:
            raise DataError(self._too_many(source, bad, max_bad_share))

    def _say(self, problems: Sequence[Problem], rows: int) -> None:
        counts = Counter(p.reason for p in problems).most_common()
        reasons = ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in counts)
        where = f": {self.path}" if self.path else ""
        say(visible(f"{len(problems):,} of {rows:,} rows quarantined ({reasons}){where}"))

    def _too_many(self, source: str, bad: list[Problem], max_bad_share: float) -> str:
        first = "; ".join(str(p) for p in bad[:3])
        more = f"; all of them: {self.path}" if self.path else ""
        return (
            f"{source}: {len(bad):,} of {self._rows[source]:,} rows are bad, more than data.max_bad_share = "
            f"{max_bad_share:g} allows: {first}{more}. {advice(bad)}, or raise data.max_bad_share"
        )

    def _write(self, problems: Sequence[Problem]) -> None:
        """Append to the file. The file of an earlier start is replaced, so that the same data give the same file."""
        if self.path is None:
            return
        try:
            if not self._started:
                self.path.unlink(missing_ok=True)
                self._started = True
            if problems:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps({**asdict(p), "advice": ADVICE[p.reason]}) + "\n" for p in problems)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error}") from None


def as_quarantine(where: Quarantine | Path | None) -> Quarantine:
    """`where` itself, or a quarantine that writes to that path (None: to no file)."""
    return where if isinstance(where, Quarantine) else Quarantine(where)
