"""Which column of a row holds its videos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seethink.data.fields import VIDEO_COLUMNS, Row
from seethink.data.quarantine import RowError
from seethink.data.values import from_json, is_empty


def video_column(row: Row) -> str | None:
    """The name of the first column of videos that is not empty."""
    return next((name for name in VIDEO_COLUMNS if not is_empty(from_json(row.get(name)))), None)


def column_videos(row: Row) -> list[Any]:
    """The videos of that column, a list or one video; each a source for videos.py. Raises RowError."""
    name = video_column(row)
    if name is None:
        return []
    videos = from_json(row[name])
    if isinstance(videos, str | bytes | Mapping):
        return [videos]
    if not isinstance(videos, list | tuple):
        raise RowError("video_source", f"{name!r}: expected a list of videos, found {type(videos).__name__}")
    empty = next((place for place, video in enumerate(videos, start=1) if is_empty(video)), None)
    if empty is not None:
        raise RowError("video_source", f"{name!r}: video {empty} is empty")
    return list(videos)
