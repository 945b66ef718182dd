"""Stored rollouts as the rows of a table, for TensorBoard and trackers: one row per completion, with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from seethink.runs.reading import require_lines

COLUMNS = ("picture", "question", "response", "answer", "extracted", "verdict", "reward", "advantage")
NAME = "rollouts"
"""The table's name in every tracker."""
HEIGHT = 256
"""Pixels of a taller picture's height; the report has it in full."""
WIDEST = 4096
"""Pixels of a row of pictures."""
CELL = 8000
"""Characters of a text."""


@dataclass(frozen=True, slots=True)
class Row:
    """A completion, as a table shows it."""

    picture: Image.Image | None
    """Those of the question, then those that a tool gave, side by side; None where there is none."""
    question: str
    response: str
    """All turns of the model, and between them what the environment said."""
    answer: str
    extracted: str
    verdict: str
    reward: float | None
    """None where grading failed."""
    advantage: float

    def cells(self) -> list[str | float | None]:
        """The values of all columns but the first, in their order."""
        texts = (self.question, self.response, self.answer, self.extracted, self.verdict)
        return [*(text[:CELL] for text in texts), self.reward, self.advantage]


def read_table(path: Path, folder: Path) -> list[Row]:
    """The rows of a file of rollouts in a run folder (`runs/rollouts.py`). Raises RunFileError where the file cannot be
    read, and OSError where a picture cannot."""
    groups = [group for _, group in require_lines(path)]
    return [_row(group, completion, folder) for group in groups for completion in group["completions"]]


def _row(group: dict[str, Any], completion: dict[str, Any], folder: Path) -> Row:
    replies = completion.get("replies", [])
    names = [*group["images"], *(name for reply in replies for name in reply["images"])]
    return Row(
        picture=side_by_side([folder / name for name in names]),
        question=group["question"],
        response=_conversation(completion["tokens"], replies) if replies else completion["text"],
        answer=str(group["answer"]),
        extracted=completion["extracted"] or "",
        verdict=completion["verdict"] or "",
        reward=completion["reward"],
        advantage=completion["advantage"],
    )


def _conversation(tokens: Sequence[str], replies: Sequence[dict[str, Any]]) -> str:
    """The model's tokens, and what an environment said after so many of them, in brackets."""
    pieces, before = [], 0
    for reply in replies:
        pieces += ["".join(tokens[before : reply["at"]]), f"\n[{reply['text'].strip()}]\n"]
        before = reply["at"]
    return "".join([*pieces, *tokens[before:]])


def side_by_side(paths: Sequence[Path]) -> Image.Image | None:
    """The pictures in one, scaled down to a common height at most; None of none."""
    pictures = []
    for path in paths:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((WIDEST, HEIGHT))
        pictures.append(picture)
    if not pictures:
        return None
    width = min(WIDEST, sum(picture.width for picture in pictures))
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    return whole


def markdown(rows: Sequence[Row]) -> str:
    """The table for TensorBoard, which shows no picture in a text: a cell says by what number it is shown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for number, row in enumerate(rows, 1):
        cells = [f"{NAME}/{number}" if row.picture is not None else "", *map(_cell, row.cells())]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: str | float | None) -> str:
    """A value within one line of a table."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "\\|")
