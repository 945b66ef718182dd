"""Images from data sets are untrusted: confined, checked from the header, decoded to what a viewer would show."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import BLUE, RED, encoded, near, picture, picture_folder
from seethink.core.types import Sample
from seethink.data.images import FORMATS, MAX_PIXELS, ImageError, ImageRef, check_image, open_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return picture_folder(tmp_path)


@pytest.mark.parametrize("source", ["in.png", "sub/deep.png", "sub/../in.png", "./in.png"])
def test_paths_inside_the_root(root: Path, source: str) -> None:
    assert near(open_image(source, root), (0, 0), BLUE)


@pytest.mark.parametrize("source", ["../secret.png", "sub/../../secret.png", "/etc/passwd", "../data2/x.png"])
def test_paths_that_leave_the_root_are_refused(root: Path, source: str) -> None:
    with pytest.raises(ImageError, match="leads out of"):
        open_image(source, root)


def test_an_absolute_path_inside_the_root_is_fine(root: Path) -> None:
    assert open_image(str(root / "in.png"), root).size == (8, 4)
    with pytest.raises(ImageError, match="leads out of"):
        open_image(str(root.parent / "secret.png"), root)


def test_links(root: Path) -> None:
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    (root / "fine.png").symlink_to(root / "in.png")
    for source in ("out.png", "folder/secret.png"):
        with pytest.raises(ImageError, match="leads out of"):
            open_image(source, root)
    assert open_image("fine.png", root).size == (8, 4)


def test_a_link_to_itself_is_refused(root: Path) -> None:
    (root / "loop.png").symlink_to("loop.png")
    with pytest.raises(ImageError):
        open_image("loop.png", root)


@pytest.mark.parametrize(
    "source", ["http://169.254.169.254/latest", "https://x.org/a.png", "file:///etc/passwd", "s3://b/k", "ftp://h/x"]
)
def test_nothing_is_fetched(root: Path, source: str) -> None:
    with pytest.raises(ImageError, match="not fetched"):
        open_image(source, root)


@pytest.mark.parametrize("source", ["none.png", "sub", "a\0b.png", "x" * 5000, "file:/etc/passwd"])
def test_paths_without_a_picture(root: Path, source: str) -> None:
    with pytest.raises(ImageError):
        open_image(source, root)


def test_a_path_needs_a_root() -> None:
    with pytest.raises(ImageError, match=r"data\.image_root"):
        open_image("in.png", None)


@pytest.mark.parametrize("source", [None, "", 7, [], {"bytes": None, "path": None}, {"path": 3}])
def test_what_is_no_image_source(root: Path, source: Any) -> None:
    with pytest.raises(ImageError, match="must be a path, bytes or a data: URI"):
        open_image(source, root)


def test_bytes_dicts_and_data_uris(root: Path) -> None:
    png = encoded(picture())
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    for source in (
        png,
        bytearray(png),
        {"bytes": png, "path": None},
        {"bytes": None, "path": "in.png"},
        uri,
        picture(),
    ):
        image = open_image(source, root)
        assert image.mode == "RGB"
        assert image.tobytes() == picture().tobytes()


@pytest.mark.parametrize(
    "uri", ["data:image/png;base64,@@@", "data:", "data:image/png;base64,AAAA", "data:text/plain,hi"]
)
def test_broken_data_uris(uri: str) -> None:
    with pytest.raises(ImageError):
        open_image(uri, None)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(format: str) -> None:
    assert format in FORMATS
    image = open_image(encoded(picture(32, 16), format), None)
    assert (image.size, image.mode) == ((32, 16), "RGB")
    assert near(image, (2, 2), BLUE, 40)


@pytest.mark.parametrize("format", ["PPM", "ICO", "EPS", "PDF"])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(ImageError, match=r"not one of PNG, JPEG"):
        open_image(encoded(picture(16, 16), format), None)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files(format: str) -> None:
    """Cut anywhere: a clean refusal, or (for cuts of nothing that matters) a whole picture. Never half a picture."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    whole = encoded(noise, format)
    for share in (0.02, 0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match="image bytes"):
            open_image(whole[: int(len(whole) * share)], None)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_files_never_raise_anything_else(format: str) -> None:
    whole = encoded(picture(24, 24), format)
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), size=3):
            damaged[at] = rng.integers(256)
        try:
            image = open_image(bytes(damaged), None)
        except ImageError:
            continue
        assert image.mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"just text", b"<html>", b"\x89PNG\r\n\x1a\n"])
def test_what_only_calls_itself_an_image(root: Path, content: bytes) -> None:
    (root / "fake.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"'fake\.png'"):
        open_image("fake.png", root)


def png_header(width: int, height: int) -> bytes:
    """A PNG of the given size whose data is short: what a decompression bomb looks like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(30000, 30000), (10000, 10000), (7100, 7100), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_from_its_header(width: int, height: int) -> None:
    assert width * height > MAX_PIXELS
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"over the cap of 50,000,000 pixels|decompression bomb"):
            open_image(png_header(width, height), None)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_takes_no_memory_outside_python_either() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"pixels|decompression bomb"):
        open_image(png_header(30000, 30000), None)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 200), (200, 1), (10, 2000)])
def test_odd_shapes(width: int, height: int) -> None:
    assert open_image(encoded(Image.new("RGB", (width, height))), None).size == (width, height)


def test_cmyk() -> None:
    image = open_image(encoded(picture(32, 32).convert("CMYK"), "JPEG"), None)
    assert near(image, (2, 2), BLUE, 60)
    assert near(image, (30, 30), RED, 60)


def test_gray() -> None:
    image = open_image(encoded(Image.new("L", (4, 4), 99)), None)
    assert image.getpixel((0, 0)) == (99, 99, 99)
    assert open_image(encoded(Image.new("1", (4, 4), 1)), None).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_shades(format: str) -> None:
    """A plain conversion clips everything above 255 to white."""
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(4, 0)
    image = open_image(encoded(Image.fromarray(ramp), format), None)
    shades = np.asarray(image)[0, :, 0].astype(int)
    assert np.abs(shades - ramp[0] / 257).max() <= 1.5


@pytest.mark.parametrize(
    ("values", "shades"),
    [
        (np.array([[0, 0.25, 1]], np.float32), [0, 64, 255]),
        (np.array([[0, 100, 200]], np.float32), [0, 100, 200]),
        (np.array([[0, 100, 200]], np.int32), [0, 100, 200]),
        (np.array([[0, 2048, 4095]], np.int32), [0, 128, 255]),
        (np.array([[0, 2048, 4095]], np.uint16), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], np.float32), [0, 128, 255]),
    ],
)
def test_greys_of_other_depths_are_scaled(values: Any, shades: list[int]) -> None:
    image = open_image(encoded(Image.fromarray(values), "TIFF"), None)
    assert [image.getpixel((x, 0)) for x in range(3)] == [(shade,) * 3 for shade in shades]


@pytest.mark.parametrize("darkest", [-1.0, 70_000.0, float("nan"), float("inf")])
def test_greys_of_no_usual_range_are_refused(darkest: float) -> None:
    strange = Image.fromarray(np.array([[0.5, darkest]], np.float32))
    with pytest.raises(ImageError, match=r"has greys from .* which is no usual range; save it with 8 bits"):
        open_image(encoded(strange, "TIFF"), None)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (*RED, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert open_image(encoded(clear), None).getpixel((0, 0)) == (255, 255, 255)
    assert near(open_image(encoded(half), None), (0, 0), (127, 127, 127), 2)
    assert open_image(encoded(Image.new("LA", (4, 4), (0, 0))), None).getpixel((0, 0)) == (255, 255, 255)


def test_a_palette_with_transparency() -> None:
    image = picture(4, 4).quantize(4)
    blue = image.getpixel((0, 0))
    seen = open_image(encoded(image, "PNG", transparency=blue), None)
    assert seen.getpixel((0, 0)) == (255, 255, 255)
    assert near(seen, (3, 3), RED)


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (6, 6), color) for color in (RED, BLUE)]
    image = open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), None)
    assert near(image, (0, 0), RED)


def test_a_turned_photograph_is_turned_back() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    image = open_image(encoded(picture(32, 16), "JPEG", exif=exif, quality=95), None)
    assert image.size == (16, 32)
    assert near(image, (14, 2), BLUE, 30)
    assert near(image, (1, 30), RED, 30)


@pytest.mark.parametrize(("width", "height"), [(1, 201), (201, 1), (1, 20000), (2, 20000), (20000, 1)])
def test_images_that_crash_processors_are_refused_from_their_header(width: int, height: int) -> None:
    with pytest.raises(ImageError, match="longer than 200 times its width") as error:
        open_image(encoded(Image.new("RGB", (width, height))), None)
    assert error.value.reason == "image_aspect"


def test_the_cap_is_a_setting() -> None:
    assert open_image(encoded(picture(8, 4)), None, max_pixels=32).size == (8, 4)
    with pytest.raises(ImageError, match="is 8x4, over the cap of 31 pixels") as error:
        open_image(encoded(picture(8, 4)), None, max_pixels=31)
    assert error.value.reason == "image_too_large"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_base64_without_a_prefix(root: Path, format: str) -> None:
    text = base64.b64encode(encoded(picture(16, 16), format)).decode()
    lines = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for source in (text, lines, {"bytes": text}, {"base64": text}):
        assert open_image(source, root).size == (16, 16)
    with pytest.raises(ImageError, match="broken base64"):
        open_image(text + "!", root)


def test_a_path_that_looks_like_base64_is_a_path(root: Path) -> None:
    """Base64 of a JPEG starts with `/9j/`, as a path may."""
    for name in ("9j", "iVBORw0KGgo", "a" * 80):
        (root / name).mkdir()
        picture().save(root / name / "x.png")
        assert open_image(f"{name}/x.png", root).size == (8, 4)
    with pytest.raises(ImageError):
        open_image("/9j/" + "a" * 100, root)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "image_unreadable"),
        (b"text", "image_unreadable"),
        (encoded(picture())[:40], "image_unreadable"),
        ("none.png", "image_missing"),
        ("sub", "image_missing"),
        ("a\0b.png", "image_missing"),
        ("../secret.png", "image_outside_root"),
        ("/etc/passwd", "image_outside_root"),
        ("file:///etc/passwd", "image_address"),
        ("http://169.254.169.254/x", "image_address"),
        (7, "image_source"),
        (None, "image_source"),
        (png_header(30000, 30000), "image_too_large"),
        (png_header(7100, 7100), "image_too_large"),
    ],
)
def test_reasons(root: Path, source: Any, reason: str) -> None:
    for function in (open_image, check_image):
        with pytest.raises(ImageError) as error:
            function(source, root)
        assert error.value.reason == reason


def test_a_reference_knows_size_and_content_and_loads(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture(32, 16), "JPEG", exif=exif, quality=95)
    (root / "turned.jpg").write_bytes(turned)
    for source, path, data in (("turned.jpg", root / "turned.jpg", None), (turned, None, turned)):
        ref = check_image(source, root)
        assert isinstance(ref, ImageRef)
        assert (ref.size, ref.width, ref.height, ref.path, ref.data) == ((16, 32), 16, 32, path, data)
        assert ref.sha256 == hashlib.sha256(turned).hexdigest()
        assert ref.load().tobytes() == open_image(source, root).tobytes()
        assert "\\x" not in repr(ref)
    assert check_image("turned.jpg", root) == check_image("turned.jpg", root)
    assert isinstance(check_image(picture(), root), Image.Image)


def test_a_reference_whose_file_has_changed_is_refused(root: Path) -> None:
    ref = check_image("in.png", root)
    assert isinstance(ref, ImageRef)
    (root / "in.png").write_bytes(png_header(30000, 30000))
    with pytest.raises(ImageError, match="has changed since it was checked"):
        ref.load()
    (root / "in.png").unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        ref.load()


def test_samples_load_their_pictures() -> None:
    plain, ref = picture(), check_image(encoded(picture(4, 4)), None)
    sample = Sample("s", "Q?", (plain, ref))
    assert [p.size for p in sample.pictures()] == [(8, 4), (4, 4)]
    assert sample.pictures()[0] is plain


def test_no_file_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        open_image("in.png", root)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1
