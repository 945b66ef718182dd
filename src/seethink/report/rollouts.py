"""Chooses and packs the rollouts that the page's viewer shows.

A long run writes far more than a page can carry, so files are first only indexed (where each line starts),
then groups are taken evenly over the steps until the count or the bytes are used up.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import Any

from seethink.core.files import require_file
from seethink.core.redact import visible
from seethink.report.html import embed
from seethink.report.images import Album
from seethink.report.load import Run, Stage, number
from seethink.runs.reading import parse_object

MAX_GROUPS = 2000
MAX_BYTES = 12_000_000
"""The limit of the embedded JSON with its images; the rest of the page stays far below 3 MB."""
VERDICTS = ("correct", "wrong", "no_answer", "error")
_GIVE_UP = 8
"""After this many groups in a row that do not fit, no further group is tried."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where one prompt group is stored."""

    stage: Stage
    path: Path
    source: str
    step: int | None
    order: int
    offset: int


@dataclass(slots=True)
class Rollouts:
    """The viewer's rollouts; `data()` is embedded in the page as JSON."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    album: Album = field(default_factory=Album)
    found: int = 0
    spans: bool = False
    """Whether the run searched its responses for statements that the image cannot be seen."""

    def data(self) -> dict[str, Any]:
        scale = self.entropy_scale()
        return {"images": self.album.uris, "groups": self.groups, "scale": scale, "spans": self.spans, "shaded": True}

    def entropy_scale(self) -> float:
        """The entropy, in nats, that is shaded darkest: the 99th percentile, at least 0.5."""
        rows = [one["entropies"] or () for group in self.groups for one in group["completions"]]
        values = sorted(value for row in rows for value in row)
        return max(0.5, round(values[int(0.99 * (len(values) - 1))] / 100, 1)) if values else 0.5


def collect(run: Run, max_groups: int = MAX_GROUPS, max_bytes: int = MAX_BYTES) -> Rollouts:
    """Groups of every stage, taken evenly over the steps, within both limits."""
    lines = [line for stage in run.stages for line in _index(stage, run.problems)]
    rollouts = Rollouts(found=len(lines))
    taken: list[tuple[Line, dict[str, Any]]] = []
    used = misfits = damaged = 0
    for line in _spread(lines):
        row = _read(line)
        if row is None:
            damaged += 1
            continue
        known = len(rollouts.album.uris)
        group = _pack(row, line, rollouts.album)
        size = len(embed(group)) + sum(len(uri) for uri in rollouts.album.uris[known:])
        if used + size > max_bytes:
            rollouts.album.forget(known)
            misfits += 1
        else:
            taken.append((line, group))
            used, misfits = used + size, 0
        if misfits == _GIVE_UP or len(taken) == max_groups:
            break
    if damaged:
        run.problems.append(f"{damaged} rollout group{'s' if damaged > 1 else ''} could not be read.")
    rollouts.spans = any(one["hallucinated"] is not None for _, group in taken for one in group["completions"])
    rollouts.groups = [group for _, group in sorted(taken, key=lambda pair: pair[0].order)]
    return rollouts


def _index(stage: Stage, problems: list[str]) -> Iterator[Line]:
    """Every group of a stage in reading order; `order` is set later, over all stages."""
    steps = sorted((stage.folder / "rollouts").glob("step_*.jsonl"))
    files = [(path, f"{stage.name} · training") for path in steps]
    files.append((stage.folder / "eval" / "rollouts.jsonl", f"{stage.name} · evaluation"))
    for path, source in files:
        step = re.search(r"step_(\d+)", path.name)
        try:
            for offset in _offsets(path):
                yield Line(stage, path, source, int(step[1]) if step else None, 0, offset)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path.parent.name}/{path.name} could not be read: {error.strerror or error}.")


def _offsets(path: Path) -> Iterator[int]:
    offset = 0
    require_file(path)
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield offset
            offset += len(line)


def _spread(lines: list[Line]) -> list[Line]:
    """The lines in an order of which every prefix is spread evenly over the files, and within each file."""
    files: dict[Path, list[Line]] = {}
    for order, line in enumerate(lines):
        files.setdefault(line.path, []).append(replace(line, order=order))
    turns = []
    for index, group in enumerate(files.values()):
        visits = sorted(range(len(group)), key=_halving)
        turns += [(turn, _halving(index), group[place]) for turn, place in enumerate(visits)]
    return [line for _, _, line in sorted(turns, key=lambda turn: turn[:2])]


def _halving(index: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8 ...: every prefix of a range sorted by it is spread evenly over the range."""
    return int(f"{index:032b}"[::-1], 2) / 2**32


def _read(line: Line) -> dict[str, Any] | None:
    with line.path.open("rb") as file:
        file.seek(line.offset)
        try:
            return parse_object(file.readline())
        except ValueError:
            return None


def _pack(row: dict[str, Any], line: Line, album: Album) -> dict[str, Any]:
    step = number(row.get("step"))
    return {
        "source": visible(line.source),
        "step": line.step if step is None or line.step is None else int(step),
        "id": _text(row.get("id")),
        "domain": _text(row.get("domain")),
        "difficulty": _text(row.get("difficulty")),
        "question": _text(row.get("question")),
        "answer": _text(row.get("answer")),
        "choices": [_text(choice) for choice in _list(row.get("choices"))],
        "images": [album.add(line.stage.folder, name) for name in _list(row.get("images"))],
        "completions": [
            _completion(one) | _replies(one, line.stage.folder, album)
            for one in _list(row.get("completions"))
            if isinstance(one, dict)
        ],
    }


def _completion(row: dict[str, Any]) -> dict[str, Any]:
    tokens = [token for token in _list(row.get("tokens")) if isinstance(token, str)]
    whole = bool(tokens) and len(tokens) == len(row["tokens"])
    verdict, parts = row.get("verdict"), row.get("reward_parts")
    return {
        "tokens": _visible(tokens) if whole else [_text(row.get("text"))],
        "entropies": _entropies(row.get("entropies"), len(tokens)) if whole else None,
        "critical": _marks(row.get("critical"), len(tokens)) if whole else [],
        "reward": _rounded(row.get("reward")),
        "parts": {_text(k): _rounded(v) for k, v in parts.items()} if isinstance(parts, dict) else {},
        "advantage": _rounded(row.get("advantage")),
        "verdict": verdict if verdict in VERDICTS else "error",
        "extracted": None if row.get("extracted") is None else _text(row["extracted"]),
        "truncated": row.get("truncated") is True,
        "hallucinated": _token_spans(row.get("hallucinated"), _text(row.get("text")), tokens),
    }


def _replies(row: dict[str, Any], folder: Path, album: Album) -> dict[str, Any]:
    """What a tool said, and after how many of the tokens; nothing for a response of one turn."""
    said = [
        {
            "at": int(number(one.get("at")) or 0),
            "text": _text(one.get("text")),
            "images": [album.add(folder, name) for name in _list(one.get("images"))],
            "failed": one.get("failed") is True,
        }
        for one in _list(row.get("replies"))
        if isinstance(one, dict)
    ]
    return {"replies": said} if said else {}


def _visible(tokens: list[str]) -> list[str]:
    """Make hidden characters visible; most responses have none, so the whole text is tested first."""
    joined = "".join(tokens)
    return tokens if visible(joined) == joined else [visible(token) for token in tokens]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _entropies(values: Any, count: int) -> list[int] | None:
    """Hundredths of a nat, one per token; None where their number differs from that of the tokens."""
    if not isinstance(values, list) or len(values) != count:
        return None
    numbers = (value if type(value) is float and isfinite(value) else number(value) or 0.0 for value in values)
    return [round(100 * value) if value > 0 else 0 for value in numbers]


def _marks(values: Any, count: int) -> list[int]:
    """The places of the tokens where a critical word begins."""
    if not isinstance(values, list) or len(values) != count:
        return []
    return [place for place, value in enumerate(values) if value is True]


def _token_spans(spans: Any, text: str, tokens: list[str]) -> list[list[int]] | None:
    """Character spans of the text as [first, last] places of tokens; None where the run did not search for them.

    A span whose words are not found in the tokens (they keep what decoding leaves out) marks no token: [0, -1].
    """
    if not isinstance(spans, list):
        return None
    whole, ends, found, start = "".join(tokens), list(accumulate(map(len, tokens))), [], 0
    for span in spans:
        if not (isinstance(span, list) and len(span) == 2 and all(isinstance(end, int) for end in span)):
            continue
        words = text[max(0, span[0]) : max(0, span[1])]
        place = whole.find(words, start) if words else -1
        if place < 0:
            found.append([0, -1])
            continue
        start = place + len(words)
        found.append([bisect_right(ends, place), bisect_left(ends, start)])
    return found


def _rounded(value: Any) -> float | None:
    finite = number(value)
    return None if finite is None else round(finite, 4)


def _text(value: Any) -> str:
    return "" if value is None else visible(str(value))
