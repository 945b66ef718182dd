"""A sheet of pictures with their questions and answers, to be looked at."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError

from seethink.core.files import claim_file, write_bytes
from seethink.core.types import Sample
from seethink.world.questions import LETTERS

MOST = 48
"""Pictures of a sheet."""
MARK = "seethink"
"""The text field of the sheets that are written here."""
COLUMNS, GAP, TEXT, LINE = 4, 14, 150, 14
"""Pictures per row; pixels between them, for the text under each, and for one of its lines."""
SHOWN = 224
"""Pixels per side of a picture on the sheet."""
WIDTH = 42
"""Characters per line."""


def sheet(samples: Sequence[Sample]) -> Image.Image:
    """Each sample's picture at twice its size, with its domain, question and response or answer below."""
    rows = -(-len(samples) // COLUMNS)
    image = Image.new("RGB", (COLUMNS * (SHOWN + GAP) + GAP, rows * (SHOWN + TEXT + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=10)
    for number, sample in enumerate(samples):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * (SHOWN + GAP), GAP + row * (SHOWN + TEXT + GAP)
        for picture in sample.pictures():
            image.paste(picture.resize((SHOWN, SHOWN), Image.Resampling.NEAREST), (x, y))
        for line_number, line in enumerate(_lines(sample)[: TEXT // LINE]):
            pen.text((x, y + SHOWN + 4 + LINE * line_number), line, fill="black", font=font)
    return image


def _lines(sample: Sample) -> list[str]:
    options = "".join(f" {letter}. {text}" for letter, text in zip(LETTERS, sample.choices, strict=False))
    said = sample.response or f"Answer: {sample.answer}"
    texts = (f"{sample.domain}, level {sample.difficulty}", sample.question + options, said)
    return [line for text in texts for line in textwrap.wrap(text, WIDTH)]


def write_sheet(samples: Sequence[Sample], path: Path) -> None:
    """Write the sheet of the first samples as PNG."""
    info = PngImagePlugin.PngInfo()
    info.add_text(MARK, "preview")
    buffer = io.BytesIO()
    sheet(samples[:MOST]).save(buffer, "PNG", pnginfo=info, optimize=True)
    write_bytes(path, buffer.getvalue())


def claim_sheet(path: Path) -> None:
    """Raises UserError where `write_sheet` could not write, or would replace a file that is not its own."""

    def is_marked(file: Path) -> bool:
        try:
            with Image.open(file) as image:
                return MARK in image.info
        except (OSError, UnidentifiedImageError, ValueError):
            return False

    claim_file(path, is_marked, "a preview of `seethink world make`", "--preview")
