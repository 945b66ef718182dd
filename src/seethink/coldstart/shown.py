"""A question as the content parts of a chat message: what teachers and reward models are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seethink.coldstart.questions import ABOUT, Question
from seethink.core.errors import UserError
from seethink.core.files import read_file
from seethink.core.types import Sample
from seethink.data.chat import content_parts
from seethink.endpoint.chat import image_part, text_part


def content(question: Question, sample: Sample, folder: Path) -> list[dict[str, Any]]:
    """Texts and pictures in their order; a picture's bytes are sent as they lie in the folder.

    Raises UserError where a picture cannot be read.
    """
    names = iter(question.images)
    said = content_parts(sample)
    return [text_part(p["text"]) if p["type"] == "text" else _picture(next(names), folder) for p in said]


def _picture(name: str, folder: Path) -> dict[str, Any]:
    try:
        return image_part(read_file(folder / name))
    except OSError as error:
        raise UserError(f"a picture cannot be read: {error}; delete {folder / ABOUT} to make it anew") from None
