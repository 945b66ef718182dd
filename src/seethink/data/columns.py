"""Which style of columns a source has, and one row read in it."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.data.fields import Fields, Row, Style, filled, found_columns
from seethink.data.quarantine import DataError, RowError
from seethink.data.styles import STATED, STYLES
from seethink.data.values import is_empty


def recognise(rows: Sequence[Row], stated: str, source: str) -> Style:
    """The style of a source, told from its first rows or stated in `data.style`.

    Raises DataError where no style fits.
    """
    columns = {name for row in rows for name in filled(row)}
    for style in _candidates(stated):
        if not style.missing(columns):
            return style
    raise DataError(
        f"{source}: missing columns. {_expectation(stated)}; {found_columns(columns)}. Rename them, or state data.style"
    )


def _expectation(stated: str) -> str:
    """The columns that rows could have: those of the stated style, else the names of a question."""
    if stated != "auto":
        return f"Expected {STATED[stated].expects()}"
    return f"Expected a question in one of {', '.join(dict.fromkeys(c for s in STYLES for c in s.needs[0]))}"


def read_fields(row: Row, style: Style) -> Fields:
    """One row in neutral fields. Raises RowError."""
    absent = style.missing(filled(row))
    if absent:
        raise RowError("missing_column", f"expected {', '.join(absent)}; {found_columns(row)}")
    for media in ("audios", "audio"):
        if not is_empty(row.get(media)):
            raise RowError("unsupported_media", f"the row has {media!r}; only images and videos are supported")
    return style.read(row, style)


def _candidates(stated: str) -> tuple[Style, ...]:
    return STYLES if stated == "auto" else (STATED[stated],)
