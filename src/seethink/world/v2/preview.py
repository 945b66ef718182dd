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
COLUMNS, GAP, LINE = 7, 14, 14
"""Pictures per row; pixels between them, and for a line of text."""
SHOWN = 224
"""Pixels per side of a picture on the sheet."""
WIDTH, MOST_LINES = 42, 12
"""Characters per line, and lines below a picture."""


def sheet(samples: Sequence[Sample]) -> Image.Image:
    """Each sample's picture at twice its size, with its domain, question and response or answer below."""
    texts = [_lines(sample)[:MOST_LINES] for sample in samples]
    rows = [texts[i : i + COLUMNS] for i in range(0, len(texts), COLUMNS)]
    heights = [SHOWN + GAP + LINE * (1 + max(map(len, row))) for row in rows]
    columns = min(COLUMNS, len(samples))
    image = Image.new("RGB", (columns * (SHOWN + GAP) + GAP, sum(heights) + GAP), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=10)
    for number, (sample, lines) in enumerate(zip(samples, texts, strict=True)):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * (SHOWN + GAP), GAP + sum(heights[:row])
        for picture in sample.pictures():
            image.paste(picture.resize((SHOWN, SHOWN), Image.Resampling.NEAREST), (x, y))
        for line_number, line in enumerate(lines):
            pen.text((x, y + SHOWN + 4 + LINE * line_number), line, fill="black", font=font)
    # This method keeps rare colours: the largest error is some 18 of 255, and the file a seventh as large.
    return image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


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
    sheet(samples[:MOST]).save(buffer, "PNG", pnginfo=info)
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
