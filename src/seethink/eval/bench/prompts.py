"""The pieces that the benchmarks' prompts are made of: image marks, lettered options, closing sentences."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seethink.data.fields import LETTERS
from seethink.data.images import ImageRef

MARK = "<image>"
_NUMBERED = re.compile(r"<image[ _]?(\d{1,2})>")
SELECT = "Please select the correct answer from the options above."
"""The closing sentence of VLMEvalKit's prompt for multiple choice."""


def lettered(choices: Sequence[str], form: str = "{letter}. {text}") -> str:
    """One option a line.

    >>> lettered(["red", "blue"], "({letter}) {text}")
    '(A) red\\n(B) blue'
    """
    return "\n".join(form.format(letter=L, text=text) for L, text in zip(LETTERS, choices, strict=False))


def select_prompt(question: str, choices: Sequence[str], hint: str = "") -> str:
    """VLMEvalKit's prompt of a multiple-choice question (`Question`, `Options`, the request to select)."""
    first = f"Hint: {hint}\n" if hint else ""
    if not choices:
        return f"{first}Question: {question}\n"
    return f"{first}Question: {question}\nOptions:\n{lettered(choices)}\n{SELECT}"


def place_images(text: str, images: Mapping[int, ImageRef]) -> tuple[str, tuple[ImageRef, ...]]:
    """(text with `<image>` for each numbered mark, the images in the order of the marks).

    Marks are written `<image 1>`, `<image_1>` or `<image1>`. Images without a mark come first; a mark without an
    image, and a bare `<image>` of the data's own, are taken out: nothing in a text may stand for an image that is not.
    """
    text = text.replace(MARK, "")
    placed: list[ImageRef] = []
    used: set[int] = set()

    def put(match: re.Match[str]) -> str:
        number = int(match[1])
        if number not in images:
            return ""
        placed.append(images[number])
        used.add(number)
        return MARK

    text = _NUMBERED.sub(put, text)
    loose = [image for number, image in sorted(images.items()) if number not in used]
    return MARK * len(loose) + text, (*loose, *placed)


def as_list(value: Any) -> list[str]:
    """A list that a data set holds as such, as JSON or as Python writes one; nothing in it is run.

    >>> as_list("['24/7', '3.429']"), as_list(None)
    (['24/7', '3.429'], [])
    """
    if isinstance(value, str):
        value = _literal(value.strip())
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _literal(text: str) -> Any:
    if not text.startswith("["):
        return text or None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def split_options(text: str) -> list[str]:
    """Options that stand in one text, each after its letter and a semicolon: `A. 300;B. 400`.

    A semicolon inside an option stays. Where fewer than three options are found so, white space separates them too.

    >>> split_options("A. 1; 2;B. 3;C. 4"), split_options("A. 45° B. 60° ;C. 120°")
    (['1; 2', '3', '4'], ['45°', '60°', '120°'])
    """
    found = _split(text, ";")
    return [one.rstrip("; ") for one in _split(text, r"[;\s]")] if len(found) < 3 else found


def _split(text: str, separator: str) -> list[str]:
    starts: list[tuple[int, int]] = []
    at = 0
    for letter in LETTERS:
        match = re.compile(rf"(?:^|{separator})\s*{letter}\s*[.:)、．]\s*").search(text, at)
        if match is None:
            break
        starts.append((match.start(), match.end()))
        at = match.end()
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True)]
