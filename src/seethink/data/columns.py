"""Which style of columns a source has, and one row read in it."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.data.fields import Fields, Row, Style, filled, found_columns
from seethink.data.quarantine import DataError, RowError
from seethink.data.styles import STATED, STYLES


def recognise(rows: Sequence[Row], stated: str, source: str) -> Style:
    """The style of a source, told from its first rows or stated in `data.style`.

    Raises DataError that lists the columns of each style where none fits.
    """
    columns = {name for row in rows for name in filled(row)}
    for style in _candidates(stated):
        if not style.missing(columns):
            return style
    raise DataError(
        f"{source}: missing columns. {expectations(stated)}; {found_columns(columns)}. Rename them, or state data.style"
    )


def expectations(stated: str) -> str:
    """The columns that rows could have, as an error message lists them."""
    return f"Expected {', '.join(dict.fromkeys(style.expects() for style in _candidates(stated)))}"


def read_fields(row: Row, style: Style) -> Fields:
    """One row in neutral fields. Raises RowError."""
    absent = style.missing(filled(row))
    if absent:
        raise RowError("missing_column", f"expected {', '.join(absent)}; {found_columns(row)}")
    for media in ("videos", "video", "audios", "audio"):
        if row.get(media):
            raise RowError("unsupported_media", f"the row has {media!r}; only images are supported")
    return style.read(row, style)


def _candidates(stated: str) -> tuple[Style, ...]:
    return STYLES if stated == "auto" else (STATED[stated],)
