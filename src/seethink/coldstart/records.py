"""Keyed lines of which a summary each is in memory: traces without their texts, grades, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from seethink.runs.keyed_lines import KeyedLines

S = TypeVar("S")


class Records(KeyedLines, Generic[S]):
    """One file. `summaries` has what `summary` keeps of the last object of every key, in the order of first keys.

    Example:
        with Records(folder / "traces.jsonl", lambda record: record["state"]) as traces:
            traces.add({"key": "ab12", "state": "done", "text": "..."})
    """

    def __init__(self, path: Path, summary: Callable[[Mapping[str, Any]], S]) -> None:
        """`summary` raises KeyError, TypeError or ValueError for an object that is none of this file's."""
        self._summary = summary
        self.summaries: dict[str, S] = {}
        super().__init__(path)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one object."""
        self.append([record])

    def get(self, key: str) -> dict[str, Any]:
        """The last object of a key; empty where there is none."""
        return self[key] if key in self.summaries else {}

    def _keep(self, record: Mapping[str, Any], length: int) -> None:
        found = self._summary(record)
        super()._keep(record, length)
        self.summaries[record["key"]] = found
