"""Problems with pictures, and a scripted teacher that solves them: for tests of `seethink coldstart`."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.rows import write_jsonl
from helpers.scripted_openai import Ask, Reply, says

GOLD = 710_000
"""The answer to problem n is GOLD + n, a number that stands nowhere but in the gold column and in right replies."""
_PROBLEM = re.compile(r"Problem (\d+)")


def picture(number: int, side: int = 32) -> Image.Image:
    """A picture of 4 x 4 coloured fields, unlike any other's."""
    fields = np.random.default_rng([5, number]).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize((side, side), Image.Resampling.NEAREST)


def file_of(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def problem(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": f"p{number}", "question": f"Problem {number}: what is the sum?", "answer": str(GOLD + number)}
    return {**row, "image": f"{number}.png", "domain": ("maths", "physics")[number % 2], **changes}


def problems(folder: Path, count: int) -> Path:
    """`count` problems and their pictures in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(file_of(picture(number)))
    return write_jsonl(folder / "problems.jsonl", [problem(number) for number in range(count)])


def number_of(ask: Ask) -> int:
    """Which problem a request is about."""
    found = _PROBLEM.search(json.dumps(ask.body["messages"]))
    assert found is not None
    return int(found[1])


def thought(number: int, answer: object | None = None) -> str:
    said = GOLD + number if answer is None else answer
    return f"<think>I look at picture {number} and add.</think>The answer is {said}."


def solves(ask: Ask) -> Reply:
    return says(thought(number_of(ask)), tokens=12)


def by_number(replies: dict[int, Callable[[Ask], Reply]]) -> Callable[[Ask], Reply]:
    """Replies to some problems; all others are solved."""
    return lambda ask: replies.get(number_of(ask), solves)(ask)


def everything_in(folder: Path) -> bytes:
    """The content of every file of a folder, at any depth."""
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def final_files(folder: Path) -> dict[str, bytes]:
    """What must not depend on when a run was interrupted: the data and the page."""
    files = [folder / "report.html", *(path for path in (folder / "data").rglob("*") if path.is_file())]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
