"""Fuzzed image files: they decode to RGB of the stated size, or are refused with a reason; never a crash or a hang."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.fuzzing import fuzz, harmless, keeping, kept
from seethink.data.images import FORMATS, ImageError, ImageRef, check_image, open_image

pytestmark = pytest.mark.slow
MODES = {"PNG": ("RGB", "L", "RGBA", "P", "1", "I;16"), "JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGB", "RGBA")}
MODES |= {"GIF": ("P", "L"), "BMP": ("RGB", "L"), "TIFF": ("RGB", "CMYK", "I;16", "F")}


def encoded(kind: str, mode: str) -> bytes:
    """A small picture of noise, with an EXIF orientation where the format has one."""
    noise = np.random.default_rng(0).integers(0, 255, (23, 31, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert("L" if mode == "I;16" else mode)
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image
    exif, found = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.save(found, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    return found.getvalue()


SEEDS = [encoded(kind, mode) for kind in FORMATS if kind in MODES for mode in MODES[kind]]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file with bytes changed, cut out, repeated, or its end missing; a PNG's checksums mended again."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        start, length = draw(st.integers(0, max(0, len(data) - 1))), draw(st.integers(1, 8))
        data[start : start + length] = draw(st.binary(max_size=8) | st.just(bytes(data[start : start + length]) * 3))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return mended(bytes(data)) if draw(st.booleans()) else bytes(data)


def mended(png: bytes) -> bytes:
    """The same chunks with right checksums, so that damage gets past the first check."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        return png
    found, at = png[:8], 8
    while at + 12 <= len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        if at + 12 + length > len(png):
            break
        body = png[at + 4 : at + 8 + length]
        found += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return found + png[at:]


def look(data: bytes, folder: Path) -> None:
    """The property, through bytes, base64 and a file."""
    (folder / "a.png").write_bytes(data)
    sources = [data, {"bytes": data, "path": None}, "a.png", f"data:image/png;base64,{base64.b64encode(data).decode()}"]
    said = []
    for source in sources:
        with harmless(folder):
            try:
                found = check_image(source, folder, max_pixels=1_000_000)
            except ImageError as error:
                said.append(error.reason)
                continue
            assert isinstance(found, ImageRef)
            shown = found.load()
            assert (shown.mode, shown.size) == ("RGB", found.size)
            said.append("decoded")
    assert len(set(said)) == 1 or not data, said


@given(data=damaged())
@fuzz(100, 5000)
def test_any_image(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with keeping("images", data):
        look(data, tmp_path_factory.getbasetemp())


@given(
    source=st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.binary(max_size=40),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(st.sampled_from(["bytes", "path", "url", "image", "x"]), st.text() | st.none()),
    )
)
@fuzz(100, 5000)
def test_any_source(tmp_path_factory: pytest.TempPathFactory, source: object) -> None:
    folder = tmp_path_factory.getbasetemp()
    with harmless(folder), pytest.raises(ImageError):
        open_image(source, folder)


def test_the_seeds_decode(tmp_path: Path) -> None:
    assert len(SEEDS) >= 15
    for seed in SEEDS:
        assert check_image(seed, tmp_path).size in ((31, 23), (23, 31))


@pytest.mark.parametrize("data", kept("images"))
def test_kept_images(data: bytes, tmp_path: Path) -> None:
    look(data, tmp_path)
